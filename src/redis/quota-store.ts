import { systemClock } from "../core/clock.js";
import { boundedKey } from "../core/keyed.js";
import {
  durationMs,
  finiteNumber,
  optionalFunction,
  ratio,
  readOptions,
  unlessFalse,
  wholeNumber,
} from "../core/options.js";
import { type ReportError, userClock, warn } from "../core/user-code.js";
import {
  LeasedQuotaStore,
  type LeaseSnapshot,
  type TokenLedger,
} from "../policies/rate-limit/leases.js";
import type { QuotaStore } from "../policies/rate-limit/store.js";
import type { RedisClient } from "./client.js";
import { RedisError, type RedisOptions, redisOptionNames, ScriptRunner, script } from "./script.js";

// The bucket of a key is one text: the tokens that are missing from it, and when that was so, in microseconds of the time of
// Redis. A bucket that is full is kept nowhere: its key expires when it would be full.

/** Arguments: ratePerSecond, burst, back, need, want. Answers what was taken, and what the bucket holds after it. */
const exchange = script(
  "exchange of quota tokens",
  `
local perUs, burst = ARGV[1] / 1000000, tonumber(ARGV[2])
local back, need, want = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local kept = redis.call('GET', KEYS[1])
local missing, atUs = 0, nowUs
if kept then
  local space = string.find(kept, ' ', 1, true)
  missing, atUs = tonumber(string.sub(kept, 1, space - 1)), tonumber(string.sub(kept, space + 1))
end
-- Where the time of Redis was put back, nothing is added for it.
missing = math.max(0, missing - math.max(0, nowUs - atUs) * perUs)
missing = math.max(0, missing - back)
local left, taken = burst - missing, 0
-- Sums of fractions are a little off.
if want > 0 and left + 0.000001 >= need then
  taken = math.max(need, math.min(want, math.max(0, left)))
end
missing = missing + taken
if missing <= 0 then
  redis.call('DEL', KEYS[1])
else
  local fullMs = math.min(missing / perUs / 1000, 1000000000000)
  redis.call('SET', KEYS[1], string.format('%.17g %.0f', missing, nowUs), 'PX', text(fullMs + 1000))
end
return {string.format('%.17g', taken), string.format('%.17g', burst - missing)}
`,
);

/**
 * A quota or rate that all processes of a fleet share.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface RedisQuotaOptions extends RedisOptions {
  /**
   * The most tokens of a key that a process leases, as a share of the burst, 0 to 1. With 0, and where it comes to less than
   * one token, each call asks Redis. @defaultValue 0.1
   */
  readonly leaseShare?: number;
  /**
   * A lease has as many tokens as the process needs in so many milliseconds at its present rate, 1 ms to 24 days. So it asks
   * for each key that is in use about `2_000 / leaseMs` times per second. @defaultValue 200
   */
  readonly leaseMs?: number;
  /** Tokens that the process has not needed for so many milliseconds go back, 10 ms to 24 days. @defaultValue 1_000 */
  readonly idleMs?: number;
  /**
   * How long a call waits for Redis before this process decides alone, 1 ms to 24 days. Less than the `storeTimeoutMs` of the
   * quota, so that `localShare` decides and not `onStoreError`. @defaultValue 40
   */
  readonly callWaitMs?: number;
  /**
   * The share of the rate and the burst that this process has while Redis does not answer, above 0, up to 1. With N processes,
   * `1 / N` keeps the sum. `false`: it has none, and `onStoreError` of the quota decides.
   * @defaultValue 1, so that no call is refused that one process alone would let pass
   */
  readonly localShare?: number | false;
  /** Keys that are kept in this process, 1 to 10,000,000. Of more, the one used longest ago returns its tokens. @defaultValue 10_000 */
  readonly maxKeys?: number;
  /** Is told that Redis does not answer, once per second at most. @defaultValue emits a process warning */
  readonly onError?: ReportError;
}

const known = [
  ...redisOptionNames,
  "leaseShare",
  "leaseMs",
  "idleMs",
  "callWaitMs",
  "localShare",
  "maxKeys",
  "onError",
] as const satisfies readonly (keyof RedisQuotaOptions)[];

/** While Redis does not answer, it is asked again after so many milliseconds. */
const retryMs = 1_000;

/**
 * The tokens of quotas or rates, in Redis.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface RedisQuotaStore extends QuotaStore {
  giveBack(...given: Parameters<NonNullable<QuotaStore["giveBack"]>>): void;
  /**
   * Returns the tokens that this process has leased, so that others can have them at once; without it they are lost. Call it
   * when the process ends, after `weir.close()`. Calls that come later are still answered.
   */
  close(): Promise<void>;
  snapshot(): LeaseSnapshot;
}

/**
 * A store for `quota.store` and `rate.store` that all processes share over one Redis. Calls do not wait for it: a process
 * leases tokens in batches, answers from its lease, and asks for the next one before this one is used up. A call waits for
 * Redis, for `callWaitMs` at most, when it is the first of its key or the first after a pause, and where the burst is too small
 * for a lease.
 *
 * How exact it is, for N processes with a lease of at most `L = leaseShare * burst` tokens each (0, where that is less than 1):
 *
 * - No more calls pass than the burst, what the rate adds in the time, and `N * L`. From a full bucket on, as at first and
 *   after a pause, not even `N * L` more. Lost answers and processes that die lose tokens, and never make any.
 * - No more than `N * L` tokens lie unused in processes, for two times `idleMs` at the longest.
 * - While Redis does not answer, each process lets calls pass by what it has leased, and then by a bucket of its own with
 *   `localShare` of the rate and the burst. Such calls have a decision with the reason `STORE_AWAY`, and the gauge
 *   `weir.store.away` is 1. Redis is asked again once per second, while there are calls.
 * - A Redis that loses its data, or evicts a key, has a full bucket.
 *
 * Quotas that share a store need different keys, or each a store with a `prefix` of its own.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export function redisQuotaStore(
  client: RedisClient,
  given: RedisQuotaOptions = {},
): RedisQuotaStore {
  const options = readOptions("redisQuotaStore", given, known);
  const { leaseShare = 0.1, leaseMs = 200, idleMs = 1_000, callWaitMs = 40 } = options;
  const { localShare = 1, maxKeys = 10_000, onError } = options;
  const report = optionalFunction("redisQuotaStore.onError", onError) ?? warn;
  return new LeasedQuotaStore(
    new RedisLedger(new ScriptRunner("redisQuotaStore", client, options)),
    Object.freeze({
      share: finiteNumber("redisQuotaStore.leaseShare", leaseShare, 0, 1),
      leaseMs: durationMs("redisQuotaStore.leaseMs", leaseMs, 1),
      idleMs: durationMs("redisQuotaStore.idleMs", idleMs, 10),
      callWaitMs: durationMs("redisQuotaStore.callWaitMs", callWaitMs, 1),
      localShare: unlessFalse("redisQuotaStore.localShare", localShare, ratio),
      maxKeys: wholeNumber("redisQuotaStore.maxKeys", maxKeys, 1, 10_000_000),
      retryMs,
    }),
    userClock(options.clock ?? systemClock, warn),
    report,
    "redisQuotaStore",
  );
}

class RedisLedger implements TokenLedger {
  readonly #runner: ScriptRunner;

  constructor(runner: ScriptRunner) {
    this.#runner = runner;
  }

  async exchange(
    ...[key, { back, need, want }, rate]: Parameters<TokenLedger["exchange"]>
  ): ReturnType<TokenLedger["exchange"]> {
    const name = this.#runner.key("quota", boundedKey(key));
    const numbers = [rate.ratePerSecond, rate.burst, back, need, want];
    const [taken, left] = (await this.#runner.run(exchange, [name], numbers.map(String))).map(
      Number,
    );
    if (taken === undefined || left === undefined || !Number.isFinite(taken + left)) {
      throw new RedisError(exchange.name, "Redis answered with no numbers");
    }
    return { taken, left };
  }
}
