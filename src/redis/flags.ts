import {
  type CancelTask,
  type Clock,
  type Random,
  systemClock,
  systemRandom,
} from "../core/clock.js";
import { durationMs, nameText, optionalFunction, readOptions } from "../core/options.js";
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
import type { RedisClient } from "./client.js";
import { RedisFlagStore, type SetFlagOptions, type StoredFlag } from "./flag-store.js";
import { type RedisOptions, redisOptionNames } from "./script.js";

/** Options of `redisFlags`. */
export interface RedisFlagsOptions extends RedisOptions {
  /**
   * How often the flags are read even if nobody told of a change, in milliseconds, from 100 ms to 24 days: a message may be
   * lost. @defaultValue 15_000
   */
  readonly pollMs?: number;
  /** How long `ready` waits for the first values, in milliseconds, from 0 to 24 days. @defaultValue 2_000 */
  readonly firstValuesMs?: number;
  /** The source of chance, by which processes do not all read at once. @defaultValue the system's */
  readonly random?: Random;
  /** Notified once when Redis cannot be reached, or has lost the flags. @defaultValue emits a process warning */
  readonly onError?: ReportError;
}

/** Flags that all processes share, in Redis. */
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
 */
export function redisFlags(client: RedisClient, options: RedisFlagsOptions = {}): RedisFlags {
  return new WatchedFlags(client, options);
}

/** While Redis cannot be reached it is asked so often, in milliseconds. */
const awayPollMs = 1_000;
/** The part of an interval that is left to chance. */
const jitter = 0.2;

const optionNames = [...redisOptionNames, "pollMs", "firstValuesMs", "random", "onError"];

/** A flag as this process has it. */
interface WatchedFlag extends StoredFlag {
  /** When it expires, on the monotonic clock of this process; `Infinity` for never. */
  readonly untilMs: number;
}

class WatchedFlags implements RedisFlags {
  readonly name = "redis";
  readonly ready: Promise<boolean>;
  away = false;
  readonly #store: RedisFlagStore;
  readonly #client: RedisClient;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #report: ReportError;
  readonly #pollMs: number;
  readonly #listeners: FlagListeners;
  #flags: ReadonlyMap<string, WatchedFlag> = new Map();
  #reading = false;
  /** Something has changed since the read that is under way began. */
  #readAgain = false;
  #unsubscribe: (() => void) | undefined;
  /** The subscription has failed, which was reported. */
  #deaf = false;
  #stopPoll: CancelTask | undefined;
  #stopExpiry: CancelTask | undefined;
  #known: (read: boolean) => void = () => {};
  #closed = false;

  constructor(client: RedisClient, given: RedisFlagsOptions) {
    const options = readOptions("redisFlags", given, optionNames);
    const { pollMs = 15_000, firstValuesMs = 2_000, random = systemRandom, onError } = options;
    const { pollMs: _, firstValuesMs: __, random: ___, onError: ____, ...rest } = options;
    optionalFunction("redisFlags.random", random);
    optionalFunction("redisFlags.onError", onError);
    this.#report = onError ?? warn;
    this.#pollMs = durationMs("redisFlags.pollMs", pollMs, 100);
    durationMs("redisFlags.firstValuesMs", firstValuesMs);
    this.#store = new RedisFlagStore("redisFlags", client, rest);
    this.#client = client;
    this.#clock = userClock(options.clock ?? systemClock, this.#report);
    this.#random = userRandom(random, this.#report);
    this.#listeners = new FlagListeners(this.#report);
    this.ready = new Promise((resolve) => {
      const stop = this.#clock.schedule(firstValuesMs, () => resolve(false));
      this.#known = (read) => {
        stop();
        resolve(read);
      };
    });
    this.#subscribe();
    this.#read();
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
    this.#read();
  }

  async unset(name: string): Promise<boolean> {
    const was = await this.#store.unset(name);
    this.#read();
    return was;
  }

  close(): void {
    this.#closed = true;
    this.#known(false);
    this.#stopPoll?.();
    this.#stopExpiry?.();
    this.#endSubscription();
    this.#listeners.clear();
  }

  // ---- Messages.

  #subscribe(): void {
    const read = () => this.#read();
    const listener = {
      onMessage: read,
      // What was told while there was no connection is lost.
      onSubscribed: () => {
        this.#deaf = false;
        this.#read();
      },
      onFailed: (error: unknown) => {
        this.#unsubscribe = undefined;
        if (!this.#deaf && !this.#closed) {
          reportSafely(this.#report, error, "redisFlags.subscribe");
        }
        this.#deaf = true;
      },
    };
    const subscribe = () => this.#client.subscribe(this.#store.channel, listener);
    this.#unsubscribe = ask(subscribe, ending, undefined, this.#report, "redisFlags.subscribe");
  }

  #endSubscription(): void {
    const unsubscribe = this.#unsubscribe;
    this.#unsubscribe = undefined;
    if (unsubscribe !== undefined) {
      callSafely(unsubscribe, this.#report, "redisFlags.subscribe");
    }
  }

  // ---- Reading.

  /** Reads the flags; once more where that is asked for while a read is under way, which may have been answered before. */
  #read(): void {
    if (this.#closed) return;
    if (this.#reading) {
      this.#readAgain = true;
      return;
    }
    this.#reading = true;
    this.#stopPoll?.();
    this.#store.read().then(
      (flags) => this.#readEnded(() => this.#got(flags)),
      (error: unknown) => this.#readEnded(() => this.#lost(error)),
    );
  }

  #readEnded(take: () => void): void {
    this.#reading = false;
    if (this.#closed) return;
    const again = this.#readAgain;
    this.#readAgain = false;
    take();
    if (again && !this.away) this.#read();
    else this.#pollLater();
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
    this.#known(true);
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

  #pollLater(): void {
    const everyMs = this.away ? Math.min(awayPollMs, this.#pollMs) : this.#pollMs;
    const inMs = everyMs * (1 - jitter * this.#random());
    this.#stopPoll = this.#clock.schedule(inMs, () => this.#read(), { ref: false });
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

function ending(answer: unknown): () => void {
  if (typeof answer !== "function") throw new TypeError("it gave no way to end the subscription");
  return () => answer();
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
