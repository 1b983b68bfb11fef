import {
  type CancelTask,
  type Clock,
  type Random,
  systemClock,
  systemRandom,
} from "../core/clock.js";
import { durationMs, nameText, optionalFunction, readOptions } from "../core/options.js";
import { Polling, type PollingOptions } from "../core/polling.js";
import {
  ask,
  callSafely,
  type ReportError,
  reportSafely,
  userClock,
  userRandom,
  warn,
} from "../core/user-code.js";
import { FlagListeners, type FlagSource, type FlagValue } from "../policies/flags/source.js";
import { ending, type RedisClient } from "./client.js";
import { RedisFlagStore, type SetFlagOptions, type StoredFlag } from "./flag-store.js";
import { type RedisOptions, redisOptionNames } from "./script.js";

/**
 * Options of `redisFlags`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface RedisFlagsOptions extends RedisOptions, PollingOptions {
  /** The source of chance, by which processes do not all read at once. @defaultValue the system's */
  readonly random?: Random;
  /** Notified once when Redis cannot be reached, or has lost the flags. @defaultValue emits a process warning */
  readonly onError?: ReportError;
}

/**
 * Flags that all processes share, in Redis.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface RedisFlags extends FlagSource {
  readonly name: "redis";
  /**
   * Resolves when the flags have been read for the first time, or after `firstValuesMs`. Await it before the server listens,
   * so that what is switched off is so from the first call on. True when they have been read.
   */
  readonly ready: Promise<boolean>;
  /** Whether Redis cannot be reached, or has lost the flags, so that the last known values hold. */
  readonly away: boolean;
  names(): Iterable<string>;
  setBy(name: string): string | undefined;
  /**
   * Sets a flag for all processes.
   *
   * @throws RedisError (as a rejection) when Redis does not answer. It may have been set all the same.
   */
  set(name: string, value: FlagValue, options?: SetFlagOptions): Promise<void>;
  /** Unsets a flag for all processes. The result is whether it was set. @throws RedisError (as a rejection) */
  unset(name: string): Promise<boolean>;
  /** Ends the subscription and its connection, and reads no more. The last values hold. */
  close(): void;
}

/**
 * Flags that all processes share, in Redis, where `npx grpc-weir flag` sets them. A change arrives by a message, and at the
 * latest after `pollMs`. When Redis cannot be reached, or comes back without its data, the last known values hold, so that
 * what was switched off stays so.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export function redisFlags(client: RedisClient, options: RedisFlagsOptions = {}): RedisFlags {
  return new WatchedFlags(client, options);
}

const optionNames = [...redisOptionNames, "pollMs", "firstValuesMs", "random", "onError"];

/** A flag as this process has it. */
interface WatchedFlag extends StoredFlag {
  /** When it expires, on the monotonic clock of this process; `Infinity` for never. */
  readonly untilMs: number;
}

class WatchedFlags implements RedisFlags {
  readonly name = "redis";
  away = false;
  readonly #store: RedisFlagStore;
  readonly #client: RedisClient;
  readonly #clock: Clock;
  readonly #report: ReportError;
  readonly #polling: Polling;
  readonly #listeners: FlagListeners;
  #flags: ReadonlyMap<string, WatchedFlag> = new Map();
  #unsubscribe: (() => void) | undefined;
  /** The subscription has failed, which was reported. */
  #deaf = false;
  #stopExpiry: CancelTask | undefined;
  #closed = false;

  constructor(client: RedisClient, given: RedisFlagsOptions) {
    const options = readOptions("redisFlags", given, optionNames);
    const { random = systemRandom, onError } = options;
    optionalFunction("redisFlags.random", random);
    optionalFunction("redisFlags.onError", onError);
    this.#report = onError ?? warn;
    this.#store = new RedisFlagStore("redisFlags", client, options);
    this.#client = client;
    this.#clock = userClock(options.clock ?? systemClock, this.#report);
    const chance = { clock: this.#clock, random: userRandom(random, this.#report) };
    this.#polling = new Polling(() => this.#read(), options, chance, "redisFlags");
    this.#listeners = new FlagListeners(this.#report);
    this.#subscribe();
    this.#polling.now();
  }

  get ready(): Promise<boolean> {
    return this.#polling.ready;
  }

  flag(name: string): FlagValue | undefined {
    return this.#flags.get(name)?.value;
  }

  setBy(name: string): string | undefined {
    return this.#flags.get(name)?.setBy;
  }

  names(): Iterable<string> {
    return [...this.#flags.keys()];
  }

  onChange(listener: () => void): () => void {
    return this.#listeners.add(listener);
  }

  async set(name: string, value: FlagValue, options: SetFlagOptions = {}): Promise<void> {
    nameText("redisFlags.set", name);
    const { forMs } = options;
    if (forMs !== undefined) durationMs("redisFlags.set.forMs", forMs, 1);
    await this.#store.set(name, value, options);
    this.#polling.now();
  }

  async unset(name: string): Promise<boolean> {
    const was = await this.#store.unset(name);
    this.#polling.now();
    return was;
  }

  close(): void {
    this.#closed = true;
    this.#polling.close();
    this.#stopExpiry?.();
    this.#endSubscription();
    this.#listeners.clear();
  }

  // ---- Messages.

  #subscribe(): void {
    const listener = {
      onMessage: () => this.#polling.now(),
      // What was told while there was no connection is lost.
      onSubscribed: () => {
        this.#deaf = false;
        this.#polling.now();
      },
      onFailed: (error: unknown) => {
        this.#unsubscribe = undefined;
        this.#failed(error);
      },
    };
    const subscribe = () => this.#client.subscribe(this.#store.channel, listener);
    const failed = (error: unknown) => this.#failed(error);
    this.#unsubscribe = ask(subscribe, ending, undefined, failed, "redisFlags.subscribe");
  }

  #failed(error: unknown): void {
    if (!this.#deaf && !this.#closed) reportSafely(this.#report, error, "redisFlags.subscribe");
    this.#deaf = true;
  }

  #endSubscription(): void {
    const unsubscribe = this.#unsubscribe;
    this.#unsubscribe = undefined;
    if (unsubscribe !== undefined) {
      callSafely(unsubscribe, this.#report, "redisFlags.subscribe");
    }
  }

  // ---- Reading.

  async #read(): Promise<boolean> {
    try {
      const stored = await this.#store.read();
      if (!this.#closed) this.#got(stored);
    } catch (error) {
      if (!this.#closed) this.#lost(error);
    }
    return !this.away;
  }

  #got(stored: ReadonlyMap<string, StoredFlag> | undefined): void {
    if (stored === undefined && this.#flags.size > 0) {
      const what = "Redis has lost the flags: the last known values hold until flags are set again";
      this.#lost(new Error(what));
      return;
    }
    const nowMs = this.#clock.now();
    const flags = new Map<string, WatchedFlag>();
    for (const [name, flag] of stored ?? []) {
      flags.set(name, { ...flag, untilMs: nowMs + (flag.leftMs ?? Number.POSITIVE_INFINITY) });
    }
    const changed = this.away || !sameFlags(this.#flags, flags);
    this.away = false;
    this.#flags = flags;
    // It had given up, and may succeed now.
    if (this.#unsubscribe === undefined) this.#subscribe();
    this.#expireLater();
    if (changed) this.#listeners.tell();
  }

  #lost(error: unknown): void {
    if (this.away) return;
    this.away = true;
    reportSafely(this.#report, error, "redisFlags");
    this.#listeners.tell();
  }

  // ---- Flags that hold for a time.

  /** A flag expires by the clock of this process: also when Redis cannot be reached. */
  #expireLater(): void {
    this.#stopExpiry?.();
    const nextMs = Math.min(...[...this.#flags.values()].map(({ untilMs }) => untilMs));
    if (!Number.isFinite(nextMs)) return;
    const inMs = Math.max(0, nextMs - this.#clock.now());
    this.#stopExpiry = this.#clock.schedule(inMs, () => this.#expire(), { ref: false });
  }

  #expire(): void {
    const nowMs = this.#clock.now();
    this.#flags = new Map([...this.#flags].filter(([, { untilMs }]) => untilMs > nowMs));
    this.#expireLater();
    this.#listeners.tell();
  }
}

/** Whether two readings say the same. Their times differ by how long the readings took. */
function sameFlags(
  one: ReadonlyMap<string, WatchedFlag>,
  other: ReadonlyMap<string, WatchedFlag>,
): boolean {
  if (one.size !== other.size) return false;
  return [...one].every(([name, { value, setBy }]) => {
    const now = other.get(name);
    return now !== undefined && now.value === value && now.setBy === setBy;
  });
}
