import { durationMs, InvalidOptionError, readOptions, wholeNumber } from "./options.js";
import { statusCode } from "./status-code.js";

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
   * About the rest of them, 5 in 100, is sent twice. Above 0.5, below 1. While too little is known,
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

const known = [
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
  const options = readOptions(prefix, given, known, also);
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
