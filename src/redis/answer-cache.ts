import { createHash } from "node:crypto";
import { type Clock, systemClock } from "../core/clock.js";
import { durationMs, optionalFunction, readOptions, unlessFalse } from "../core/options.js";
import { type ReportError, reportSafely, userClock, warn } from "../core/user-code.js";
import type { AnswerCache } from "../policies/fallback/stale-cache/answer-cache.js";
import {
  MemoryAnswerCache,
  type MemoryAnswerCacheOptions,
  resolveMemoryAnswerCacheOptions,
} from "../policies/fallback/stale-cache/memory-answer-cache.js";
import type { RedisClient } from "./client.js";
import { type RedisOptions, redisOptionNames, ScriptRunner, script } from "./script.js";

/** Answers the value in base64 and how long it is kept, in milliseconds, or nothing. */
const read = script(
  "reading a stored answer",
  `
local value = redis.call('GET', KEYS[1])
if not value then return {} end
return {value, text(redis.call('PTTL', KEYS[1]))}
`,
);

/** Arguments: the value in base64, ttlMs. */
const write = script(
  "storing an answer",
  `
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {}
`,
);

/**
 * A cache of answers that all processes of a fleet share.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface RedisAnswerCacheOptions extends RedisOptions {
  /**
   * How long an answer of Redis is awaited, 1 to 60,000 milliseconds. Less than the `timeoutMs` of the stale cache, which
   * is 100, so that the memory of this process can still answer. @defaultValue 50
   */
  readonly timeoutMs?: number;
  /**
   * The bounds of the answers that this process keeps as well: those that it has stored or read. They answer while Redis does
   * not. `false`: none. @defaultValue 1,000 answers, 16 MiB
   */
  readonly memory?: MemoryAnswerCacheOptions | false;
  /**
   * An answer that this process has stored or read in the last so many milliseconds is used without asking Redis. 0 to 24 days.
   * Another process may have stored a newer one since. @defaultValue 1_000
   */
  readonly memoryMs?: number;
  /** Is told that Redis does not answer, once per second at most. @defaultValue emits a process warning */
  readonly onError?: ReportError;
}

const known = [
  ...redisOptionNames,
  "memory",
  "memoryMs",
  "onError",
] as const satisfies readonly (keyof RedisAnswerCacheOptions)[];

/** While Redis does not answer, it is asked again after so many milliseconds, and its failures are reported as often. */
const retryMs = 1_000;

/**
 * Numbers of a cache of answers in Redis. All but `away`, `entries` and `bytes` only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface RedisAnswerCacheSnapshot {
  readonly asked: number;
  readonly failures: number;
  /** Redis did not answer when it was asked last. */
  readonly away: boolean;
  /** Answers in the memory of this process. */
  readonly entries: number;
  readonly bytes: number;
}

/**
 * Answers in Redis, and a part of them in this process.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface RedisAnswerCache extends AnswerCache {
  readonly away: boolean;
  snapshot(): RedisAnswerCacheSnapshot;
}

/**
 * A store for `staleCache` that all processes share over one Redis: an answer that one of them has got helps all. Keys are
 * digests of call and caller, and expire with their answers.
 *
 * While Redis does not answer, this process answers by what it has stored or read itself, and does not wait: Redis is asked again
 * once per second. Calls that are answered then have a decision with the reason `STORE_AWAY`, and the gauge `weir.store.away`
 * is 1. What is stored in that time is not stored in Redis later.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export function redisAnswerCache(
  client: RedisClient,
  given: RedisAnswerCacheOptions = {},
): RedisAnswerCache {
  const options = readOptions("redisAnswerCache", given, known);
  const { timeoutMs = 50, memory = {}, memoryMs = 1_000, onError } = options;
  const clock = userClock(options.clock ?? systemClock, warn);
  const bounds = unlessFalse("redisAnswerCache.memory", memory, (option, value) =>
    resolveMemoryAnswerCacheOptions(value, option),
  );
  return new LayeredAnswerCache(
    new ScriptRunner("redisAnswerCache", client, { ...options, timeoutMs }),
    bounds === false ? undefined : new MemoryAnswerCache(bounds, clock),
    durationMs("redisAnswerCache.memoryMs", memoryMs),
    clock,
    optionalFunction("redisAnswerCache.onError", onError) ?? warn,
  );
}

class LayeredAnswerCache implements RedisAnswerCache {
  readonly #runner: ScriptRunner;
  readonly #memory: MemoryAnswerCache | undefined;
  readonly #memoryMs: number;
  readonly #clock: Clock;
  readonly #report: ReportError;
  readonly #counts = { asked: 0, failures: 0 };
  #away = false;
  /** While Redis is away: when it is asked again, on the monotonic clock. */
  #retryAtMs = -Infinity;
  #reportAtMs = -Infinity;

  constructor(
    runner: ScriptRunner,
    memory: MemoryAnswerCache | undefined,
    memoryMs: number,
    clock: Clock,
    report: ReportError,
  ) {
    this.#runner = runner;
    this.#memory = memory;
    this.#memoryMs = memoryMs;
    this.#clock = clock;
    this.#report = report;
  }

  get away(): boolean {
    return this.#away;
  }

  get(key: string): Uint8Array | undefined | Promise<Uint8Array | undefined> {
    return this.#memory?.get(key, this.#memoryMs) ?? this.#getShared(key);
  }

  set(key: string, value: Uint8Array, ttlMs: number): Promise<void> | undefined {
    this.#memory?.set(key, value, ttlMs);
    return this.#asks() ? this.#setShared(key, value, ttlMs) : undefined;
  }

  snapshot(): RedisAnswerCacheSnapshot {
    const { entries = 0, bytes = 0 } = this.#memory?.snapshot() ?? {};
    return { ...this.#counts, away: this.#away, entries, bytes };
  }

  #getShared(key: string): Uint8Array | undefined | Promise<Uint8Array | undefined> {
    return this.#asks() ? this.#read(key) : this.#memory?.get(key);
  }

  async #read(key: string): Promise<Uint8Array | undefined> {
    try {
      const [value, leftMs] = await this.#runner.run(read, [this.#keyOf(key)], []);
      this.#away = false;
      if (value === undefined || leftMs === undefined) return this.#memory?.get(key);
      const bytes = Buffer.from(value, "base64");
      this.#memory?.set(key, bytes, Number(leftMs));
      return bytes;
    } catch (error) {
      this.#failed(error);
      return this.#memory?.get(key);
    }
  }

  async #setShared(key: string, value: Uint8Array, ttlMs: number): Promise<void> {
    const { buffer, byteOffset, byteLength } = value;
    const text = Buffer.from(buffer, byteOffset, byteLength).toString("base64");
    try {
      await this.#runner.run(write, [this.#keyOf(key)], [text, String(Math.ceil(ttlMs))]);
      this.#away = false;
    } catch (error) {
      // A Redis that is full can still be read.
      this.#failed(error, error instanceof Error && /\bOOM\b/.test(error.message));
    }
  }

  /** Whether Redis is asked now: while it is away, one question in a second is. */
  #asks(): boolean {
    if (this.#away) {
      const nowMs = this.#clock.now();
      if (nowMs < this.#retryAtMs) return false;
      this.#retryAtMs = nowMs + retryMs;
    }
    this.#counts.asked += 1;
    return true;
  }

  #failed(error: unknown, full = false): void {
    const nowMs = this.#clock.now();
    this.#counts.failures += 1;
    this.#away = !full;
    this.#retryAtMs = nowMs + retryMs;
    if (nowMs < this.#reportAtMs) return;
    this.#reportAtMs = nowMs + retryMs;
    reportSafely(this.#report, error, "redisAnswerCache");
  }

  /** Keys of any length and content get one of the same length. */
  #keyOf(key: string): string {
    return this.#runner.key("answer", createHash("sha256").update(key).digest("base64url"));
  }
}
