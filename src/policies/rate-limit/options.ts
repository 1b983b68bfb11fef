import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  oneOf,
  readOptions,
  wholeNumber,
} from "../../core/options.js";
import type { QuotaStore } from "./store.js";
import type { TokenRate } from "./token-bucket.js";

const storeErrorAnswers = ["allow", "refuse"] as const;

/**
 * How many calls of one key go on per second, and what happens to the others.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/rate.md
 */
export interface RateLimitOptions {
  /** Tokens that are added per second for each key. A call takes one, or its `cost`. 0.000001 to 1_000_000_000. */
  readonly ratePerSecond: number;
  /**
   * The most tokens that a key has at once. It has as many at first, and after a time without calls. 1 to 1_000_000_000.
   * @defaultValue `ratePerSecond`, and at least 1
   */
  readonly burst?: number;
  /**
   * How long a call may wait for its tokens, in milliseconds, 0 to 24 days. A call whose tokens would come later, or after
   * its deadline, is refused at once. @defaultValue 0
   */
  readonly maxWaitMs?: number;
  /** Calls of one key that may wait, a whole number; 0 for none. @defaultValue 100 */
  readonly maxQueued?: number;
  /** Keys that are kept, a whole number. Of more, the one used longest ago is forgotten. 1 to 10_000_000. @defaultValue 10_000 */
  readonly maxKeys?: number;
  /** What keeps the tokens, such as a store that processes share. @defaultValue the memory of this process */
  readonly store?: QuotaStore;
  /** How long a store may take to answer, in milliseconds, 1 ms to 24 days. @defaultValue 50 */
  readonly storeTimeoutMs?: number;
  /**
   * What happens to a call when the store throws, rejects, answers nonsense or takes too long. `allow`: it goes on without
   * tokens; `refuse`: it is refused. Either way the failure is reported. @defaultValue `allow`
   */
  readonly onStoreError?: (typeof storeErrorAnswers)[number];
}

/** Checked, complete and frozen. */
export interface ResolvedRateLimitOptions {
  readonly rate: TokenRate;
  readonly maxWaitMs: number;
  readonly maxQueued: number;
  readonly maxKeys: number;
  readonly store: QuotaStore | undefined;
  readonly storeTimeoutMs: number;
  readonly onStoreError: (typeof storeErrorAnswers)[number];
}

const known = [
  "ratePerSecond",
  "burst",
  "maxWaitMs",
  "maxQueued",
  "maxKeys",
  "store",
  "storeTimeoutMs",
  "onStoreError",
] as const satisfies readonly (keyof RateLimitOptions)[];

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveRateLimitOptions(
  given: RateLimitOptions,
  prefix = "rate",
  also: readonly string[] = [],
): ResolvedRateLimitOptions {
  const options = readOptions(prefix, given, known, also);
  const { maxWaitMs = 0, maxQueued = 100, maxKeys = 10_000, store, storeTimeoutMs = 50 } = options;
  const ratePerSecond = finiteNumber(`${prefix}.ratePerSecond`, options.ratePerSecond, 1e-6, 1e9);
  const { burst = Math.max(1, ratePerSecond), onStoreError = "allow" } = options;
  return Object.freeze({
    rate: Object.freeze({ ratePerSecond, burst: finiteNumber(`${prefix}.burst`, burst, 1, 1e9) }),
    maxWaitMs: durationMs(`${prefix}.maxWaitMs`, maxWaitMs),
    maxQueued: wholeNumber(`${prefix}.maxQueued`, maxQueued, 0),
    maxKeys: wholeNumber(`${prefix}.maxKeys`, maxKeys, 1, 10_000_000),
    store: checkedStore(`${prefix}.store`, store),
    storeTimeoutMs: durationMs(`${prefix}.storeTimeoutMs`, storeTimeoutMs, 1),
    onStoreError: oneOf(`${prefix}.onStoreError`, onStoreError, storeErrorAnswers),
  });
}

function checkedStore(option: string, store: QuotaStore | undefined): QuotaStore | undefined {
  const whole =
    store === undefined ||
    (typeof store?.take === "function" &&
      (store.giveBack === undefined || typeof store.giveBack === "function"));
  if (whole) return store;
  throw new InvalidOptionError(option, "a store: an object with take()", store);
}
