import { durationMs, InvalidOptionError, readOptions, wholeNumber } from "../../core/options.js";
import { statusCode } from "../../core/status.js";
import { type Backoff, type BackoffOptions, exponentialBackoff } from "./backoff.js";
import {
  type ResolvedRetryBudgetOptions,
  type RetryBudgetOptions,
  resolveRetryBudgetOptions,
} from "./budget.js";

/** Which failed attempts are tried again, how often, and after which wait. */
export interface RetryOptions {
  /** Attempts of one call, the first included, as in gRFC A6. 1 (no retry) to 100. @defaultValue 3 */
  readonly maxAttempts?: number;
  /**
   * Codes by which a server's answer may be retried, as numbers of `grpc.status`. What is retried
   * depends on the origin of the status and on `idempotent` too. CANCELLED and DEADLINE_EXCEEDED may stand
   * here: they then mean the server's answer, never the caller's own. @defaultValue [UNAVAILABLE]
   */
  readonly codes?: readonly number[];
  /** The wait before a retry, where the server names none. @defaultValue full jitter, 100 ms ×2, up to 2 s */
  readonly backoff?: BackoffOptions;
  /**
   * Whether running the method twice does no harm. `true` allows retries when the server may have
   * processed the call; `false` allows only those where it cannot have. Left out, the level is unknown: an
   * UNAVAILABLE that the server itself sent is retried, a broken connection is not.
   */
  readonly idempotent?: boolean;
  /**
   * How many bytes of a streamed request are kept for another attempt. A request that outgrows it is
   * sent on and no longer retried. 0 to 1 GiB. @defaultValue 1_048_576
   */
  readonly maxBufferBytes?: number;
  /** The same, counted in messages. 0 to 1_000_000. @defaultValue 1_000 */
  readonly maxBufferMessages?: number;
  /**
   * A call that is made for a call which so many services above are retrying already is not retried here: one
   * layer of retries is enough, and layers multiply. 1 to 100. @defaultValue 1
   */
  readonly maxDepth?: number;
  /**
   * How many extra attempts, retries and hedges together, a target bears. Shared by all clients of a weir that
   * set it alike. `false` for no bound. @defaultValue the defaults of `RetryBudgetOptions`
   */
  readonly budget?: RetryBudgetOptions | false;
}

/** Checked, complete and frozen. */
export interface ResolvedRetryOptions {
  readonly maxAttempts: number;
  readonly codes: ReadonlySet<number>;
  readonly backoff: Backoff;
  readonly idempotent: boolean | undefined;
  readonly maxDepth: number;
  readonly budget: ResolvedRetryBudgetOptions | undefined;
  readonly maxBufferBytes: number;
  readonly maxBufferMessages: number;
}

const retryNames = [
  "maxAttempts",
  "codes",
  "backoff",
  "idempotent",
  "maxDepth",
  "budget",
  "maxBufferBytes",
  "maxBufferMessages",
] as const satisfies readonly (keyof RetryOptions)[];

/**
 * Fills in defaults and refuses nonsense, once, before the first call.
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function resolveRetryOptions(
  given: RetryOptions = {},
  prefix = "retry",

  also: readonly string[] = [],
): ResolvedRetryOptions {
  const options = readOptions(prefix, given, retryNames, also);
  const {
    maxAttempts = 3,
    idempotent,
    maxBufferBytes = 1 << 20,
    maxBufferMessages = 1_000,
    codes = [statusCode.unavailable],
    maxDepth = 1,
  } = options;
  if (idempotent !== undefined && typeof idempotent !== "boolean") {
    throw new InvalidOptionError(`${prefix}.idempotent`, "true, false or absent", idempotent);
  }
  return Object.freeze({
    maxAttempts: wholeNumber(`${prefix}.maxAttempts`, maxAttempts, 1, 100),
    codes: retryCodes(`${prefix}.codes`, codes),
    backoff: exponentialBackoff(options.backoff, `${prefix}.backoff`),
    idempotent,
    maxDepth: wholeNumber(`${prefix}.maxDepth`, maxDepth, 1, 100),
    budget:
      options.budget === false
        ? undefined
        : resolveRetryBudgetOptions(options.budget, `${prefix}.budget`),
    maxBufferBytes: wholeNumber(`${prefix}.maxBufferBytes`, maxBufferBytes, 0, 2 ** 30),
    maxBufferMessages: wholeNumber(`${prefix}.maxBufferMessages`, maxBufferMessages, 0, 1_000_000),
  });
}

function retryCodes(option: string, codes: readonly number[]): ReadonlySet<number> {
  if (!Array.isArray(codes))
    throw new InvalidOptionError(option, "an array of status codes", codes);
  for (const [index, code] of codes.entries()) {
    // 0 is OK: retrying a success is never meant.
    wholeNumber(`${option}[${index}]`, code, 1, 16);
  }
  return new Set(codes);
}

/**
 * When a call that takes long is sent once more, beside the attempt that is still running. For methods
 * that may run more than once. Exactly one of `delayMs` and `quantile` must be given.
 */
export interface HedgeOptions {
  /** Attempts of one call, the first included. 2 to 5, the limit of gRFC A6. @defaultValue 2 */
  readonly maxAttempts?: number;
  /** A fixed wait before each further attempt. 0 ms (all at once) to 24 days. */
  readonly delayMs?: number;
  /**
   * A learned wait: the time that this share of the method's attempts stayed within, such as 0.95.
   * About the rest of them, 5 in 100, is sent twice. Above 0.5, below 1. While too little is hedgeNames,
   * no attempt is added for being slow.
   */
  readonly quantile?: number;
  /** The least a learned wait may be. 0 ms to 24 days. @defaultValue 5 */
  readonly minDelayMs?: number;
  /**
   * Codes that do not end the call while another attempt may still answer, as numbers of
   * `grpc.status`; may be empty. @defaultValue [UNAVAILABLE]
   */
  readonly nonFatalCodes?: readonly number[];
}

/** Checked, complete and frozen. Exactly one of `delayMs` and `quantile` is a number. */
export interface ResolvedHedgeOptions {
  readonly maxAttempts: number;
  readonly delayMs: number | undefined;
  readonly quantile: number | undefined;
  readonly minDelayMs: number;
  readonly nonFatalCodes: ReadonlySet<number>;
}

const hedgeNames = [
  "maxAttempts",
  "delayMs",
  "quantile",
  "minDelayMs",
  "nonFatalCodes",
] as const satisfies readonly (keyof HedgeOptions)[];

/**
 * Fills in the defaults and refuses nonsense, once, before the first call.
 *
 * @param prefix Path of the options in error messages.
 * @throws InvalidOptionError when an option is unknown or out of range, or when the wait is given
 * twice or not at all.
 */
export function resolveHedgeOptions(
  given: HedgeOptions,
  prefix = "hedge",
  also: readonly string[] = [],
): ResolvedHedgeOptions {
  const options = readOptions(prefix, given, hedgeNames, also);
  const { maxAttempts = 2, delayMs, quantile, minDelayMs = 5 } = options;
  const { nonFatalCodes = [statusCode.unavailable] } = options;
  if (delayMs === undefined && quantile === undefined) {
    throw new InvalidOptionError(`${prefix}.delayMs`, "given when quantile is not", delayMs);
  }
  if (delayMs !== undefined && quantile !== undefined) {
    throw new InvalidOptionError(`${prefix}.quantile`, "absent when delayMs is given", quantile);
  }
  return Object.freeze({
    maxAttempts: wholeNumber(`${prefix}.maxAttempts`, maxAttempts, 2, 5),
    delayMs: delayMs === undefined ? undefined : durationMs(`${prefix}.delayMs`, delayMs),
    quantile: quantile === undefined ? undefined : tail(`${prefix}.quantile`, quantile),
    minDelayMs: durationMs(`${prefix}.minDelayMs`, minDelayMs),
    nonFatalCodes: codes(`${prefix}.nonFatalCodes`, nonFatalCodes),
  });
}

function tail(option: string, value: unknown): number {
  if (typeof value !== "number" || !(value > 0.5 && value < 1)) {
    throw new InvalidOptionError(option, "a number above 0.5 and below 1", value);
  }
  return value;
}

function codes(option: string, given: readonly number[]): ReadonlySet<number> {
  if (!Array.isArray(given)) {
    throw new InvalidOptionError(option, "an array of status codes", given);
  }
  // 0 is OK, which ends the call by winning.
  for (const [index, code] of given.entries()) wholeNumber(`${option}[${index}]`, code, 1, 16);
  return new Set(given);
}
