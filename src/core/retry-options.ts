import { type Backoff, type BackoffOptions, exponentialBackoff } from "./backoff.js";
import { InvalidOptionError, readOptions, wholeNumber } from "./options.js";
import {
  type ResolvedRetryBudgetOptions,
  type RetryBudgetOptions,
  resolveRetryBudgetOptions,
} from "./retry-budget-options.js";
import { statusCode } from "./status-code.js";

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

const known = [
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
  const options = readOptions(prefix, given, known, also);
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
