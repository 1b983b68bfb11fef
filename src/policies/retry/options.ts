import {
  durationMs,
  InvalidOptionError,
  readOptions,
  unlessOff,
  wholeNumber,
} from "../../core/options.js";
import { codeNumber, type StatusCodeOption, statusCode } from "../../core/status.js";
import { type Backoff, type BackoffOptions, exponentialBackoff } from "./backoff.js";
import {
  type ResolvedRetryBudgetOptions,
  type RetryBudgetOptions,
  resolveRetryBudgetOptions,
} from "./budget.js";

/**
 * Which failed attempts are retried, how often, and after which wait.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/retries.md
 */
export interface RetryOptions {
  /** Attempts of one call, the first included, as in gRFC A6. 1 (no retry) to 100. @defaultValue 3 */
  readonly maxAttempts?: number;
  /**
   * Status codes that may be retried, by name or as numbers of `grpc.status` from 1 to 16. Whether such a failure is retried also
   * depends on its origin and on `idempotent`. CANCELLED and DEADLINE_EXCEEDED are allowed: they then mean an answer of
   * the server, and not a cancellation or deadline of the caller. @defaultValue [UNAVAILABLE]
   */
  readonly codes?: readonly StatusCodeOption[];
  /**
   * The wait before a retry, where the server names none by pushback.
   * @defaultValue 100 ms, doubled with each retry up to 2 s, with full jitter
   */
  readonly backoff?: BackoffOptions;
  /**
   * Whether the method may run twice. `true` allows retries after failures where the server may have processed the
   * call; `false` allows them only where it has not. Left out, an UNAVAILABLE that the server itself sent before any
   * response is retried, and a broken connection is not. @defaultValue from the schema (`idempotency` of the client),
   * else unknown
   */
  readonly idempotent?: boolean;
  /**
   * How many bytes of a streamed request are kept for another attempt. A larger request is sent on, and no longer
   * retried. 0 to 2^30. @defaultValue 1_048_576
   */
  readonly maxBufferBytes?: number;
  /** How many messages of a streamed request are kept for another attempt. 0 to 1_000_000. @defaultValue 1_000 */
  readonly maxBufferMessages?: number;
  /**
   * A call is not retried here if it is made for an inbound call that this many services above are retrying already.
   * Retries in several layers multiply. 1 to 100. @defaultValue 1
   */
  readonly maxDepth?: number;
  /**
   * How many extra attempts, retries and hedges together, a target may get. All clients of a weir with equal options
   * share the budget. `false` for no limit. @defaultValue the defaults of `RetryBudgetOptions`
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
 * Checks the options and fills in defaults.
 *
 * @param also Further names that the object may have: options that the caller reads.
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
    budget = {},
  } = options;
  if (idempotent !== undefined && typeof idempotent !== "boolean") {
    throw new InvalidOptionError(`${prefix}.idempotent`, "true, false or absent", idempotent);
  }
  return Object.freeze({
    maxAttempts: wholeNumber(`${prefix}.maxAttempts`, maxAttempts, 1, 100),
    codes: failureCodes(`${prefix}.codes`, codes),
    backoff: exponentialBackoff(options.backoff, `${prefix}.backoff`),
    idempotent,
    maxDepth: wholeNumber(`${prefix}.maxDepth`, maxDepth, 1, 100),
    budget: unlessOff(`${prefix}.budget`, budget, resolveRetryBudgetOptions),
    maxBufferBytes: wholeNumber(`${prefix}.maxBufferBytes`, maxBufferBytes, 0, 2 ** 30),
    maxBufferMessages: wholeNumber(`${prefix}.maxBufferMessages`, maxBufferMessages, 0, 1_000_000),
  });
}

/** Any status code but OK, which is 0. */
function failureCodes(option: string, codes: readonly StatusCodeOption[]): ReadonlySet<number> {
  if (!Array.isArray(codes)) {
    throw new InvalidOptionError(option, "an array of status codes", codes);
  }
  return new Set(codes.map((code, index) => codeNumber(`${option}[${index}]`, code, 1)));
}

/**
 * When a call that takes long is sent once more, beside the attempt that still runs. Only methods that are known to be
 * idempotent are hedged. Exactly one of `delayMs` and `quantile` must be given.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/hedging.md
 */
export interface HedgeOptions {
  /** Attempts of one call, the first included. 2 to 5, the limit of gRFC A6. @defaultValue 2 */
  readonly maxAttempts?: number;
  /** A fixed wait before each further attempt, in milliseconds. 0 (all at once) to 24 days. */
  readonly delayMs?: number;
  /**
   * A learned wait: this quantile of the time that attempts of the method have taken in the last minute. With 0.95,
   * about 5 of 100 calls are sent twice. Above 0.5, below 1. While fewer than 100 attempts are known, calls that take
   * long are not sent again.
   */
  readonly quantile?: number;
  /** The shortest learned wait, in milliseconds. 0 to 24 days. @defaultValue 5 */
  readonly minDelayMs?: number;
  /**
   * Status codes that do not end the call while another attempt may still answer, by name or as numbers of `grpc.status`
   * from 1 to 16. May be empty. @defaultValue [UNAVAILABLE]
   */
  readonly nonFatalCodes?: readonly StatusCodeOption[];
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
 * Checks the options and fills in defaults.
 *
 * @param prefix The path of the options, for errors.
 * @param also Further names that the object may have: options that the caller reads.
 * @throws InvalidOptionError naming the option, its rule and what it was given; also when both or none of `delayMs` and
 *   `quantile` are given.
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
    nonFatalCodes: failureCodes(`${prefix}.nonFatalCodes`, nonFatalCodes),
  });
}

function tail(option: string, value: unknown): number {
  if (typeof value !== "number" || !(value > 0.5 && value < 1)) {
    throw new InvalidOptionError(option, "a number above 0.5 and below 1", value);
  }
  return value;
}
