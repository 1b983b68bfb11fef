import { durationMs, finiteNumber, InvalidOptionError, ratio, readOptions } from "./options.js";

/**
 * How much extra load retries and hedges may put on one target. Two budgets work together, and an
 * extra attempt needs both: the ratio bounds what a calm target gets on top of its calls; the tokens
 * stop extra attempts within a few failures when the target breaks.
 */
export interface RetryBudgetOptions {
  /**
   * Extra attempts per call over the window. Above 0, up to 1; `false` switches this budget off.
   * @defaultValue 0.2
   */
  readonly ratio?: number | false;
  /**
   * Extra attempts per second of the window that are allowed on top of `ratio`, so that a client
   * with few calls may retry at all. 0 to 1_000_000. @defaultValue 3
   */
  readonly minPerSecond?: number;
  /** How far back the ratio looks, in tenths. 1_000 ms to 24 days. @defaultValue 10_000 */
  readonly windowMs?: number;
  /**
   * Tokens of gRFC A6: a failure takes one, and extra attempts stop while half of them or fewer are
   * left. 0.001 to 1_000, decimals past the third are ignored; `false` switches this budget off.
   * @defaultValue 100
   */
  readonly maxTokens?: number | false;
  /**
   * Tokens that a success gives back. 0.001 to 1_000, decimals past the third are ignored, as A6 asks.
   * @defaultValue 0.1
   */
  readonly tokenRatio?: number;
}

/** Checked, complete and frozen. Tokens are whole thousandths from here on. */
export interface ResolvedRetryBudgetOptions {
  readonly ratio: number | false;
  readonly minPerSecond: number;
  readonly windowMs: number;
  readonly maxMilliTokens: number | false;
  readonly milliTokenRatio: number;
}

const defaults = {
  ratio: 0.2,
  minPerSecond: 3,
  windowMs: 10_000,
  maxTokens: 100,
  tokenRatio: 0.1,
} as const satisfies Required<RetryBudgetOptions>;

/**
 * Fills in the defaults and refuses nonsense, once, before the first call. The ratio and its reserve
 * are those of Finagle's `RetryBudget`, the tokens those of gRFC A6.
 *
 * @param prefix Path of the options in error messages.
 * @throws InvalidOptionError when an option is unknown or out of range, or when both budgets are off.
 */
export function resolveRetryBudgetOptions(
  given: RetryBudgetOptions = {},
  prefix = "retry.budget",
): ResolvedRetryBudgetOptions {
  const options = readOptions(prefix, given, Object.keys(defaults));
  const {
    ratio: share = defaults.ratio,
    minPerSecond = defaults.minPerSecond,
    windowMs = defaults.windowMs,
    maxTokens = defaults.maxTokens,
    tokenRatio = defaults.tokenRatio,
  } = options;
  if (share === false && maxTokens === false) {
    throw new InvalidOptionError(
      `${prefix}.ratio`,
      "a number above 0 and up to 1 when maxTokens is off too",
      share,
    );
  }
  return Object.freeze({
    ratio: share !== false && ratio(`${prefix}.ratio`, share),
    minPerSecond: finiteNumber(`${prefix}.minPerSecond`, minPerSecond, 0, 1_000_000),
    windowMs: durationMs(`${prefix}.windowMs`, windowMs, 1_000),
    maxMilliTokens: maxTokens !== false && milliTokens(`${prefix}.maxTokens`, maxTokens),
    milliTokenRatio: milliTokens(`${prefix}.tokenRatio`, tokenRatio),
  });
}

function milliTokens(option: string, value: number): number {
  const tokens = finiteNumber(option, value, 0.001, 1_000);
  // Cut where the number is written in decimals: times 1_000, 0.57 would lose its last thousandth.
  const [whole = "0", decimals = ""] = String(tokens).split(".");
  return Number(whole) * 1_000 + Number(decimals.slice(0, 3).padEnd(3, "0"));
}
