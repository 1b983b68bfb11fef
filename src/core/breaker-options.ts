import { durationMs, InvalidOptionError, knownKeys, ratio, wholeNumber } from "./options.js";

/** When a breaker opens, how long it rests, and how it finds out that it may close. */
export interface BreakerOptions {
  /**
   * So many failures in a row open the breaker, however far apart in time: a rare call that always
   * fails opens it too. At least 1; `false` switches the rule off. @defaultValue 5
   */
  readonly consecutiveFailures?: number | false;
  /**
   * This share of failed calls within `windowMs` opens the breaker. Above 0, up to 1; `false`
   * switches the rule off. @defaultValue 0.5
   */
  readonly failureRate?: number | false;
  /** With fewer calls than this in the window, the rate says nothing. At least 1. @defaultValue 20 */
  readonly minCalls?: number;
  /** How far back `failureRate` looks, in tenths. 1 ms to 24 days. @defaultValue 10_000 */
  readonly windowMs?: number;
  /** Rest before the first probe. 1 ms to 24 days. @defaultValue 5_000 */
  readonly openMs?: number;
  /**
   * How many probes may be out at once while half-open, and how many must succeed to close the
   * breaker. 1 to 1_000. @defaultValue 3
   */
  readonly probes?: number;
  /**
   * How long a probe may hold its place. One that takes longer gives it back and counts for nothing,
   * so set it above the time-out of an attempt. 1 ms to 24 days. @defaultValue 10_000
   */
  readonly probeLeaseMs?: number;
}

/** Checked, complete and frozen. */
export type ResolvedBreakerOptions = Readonly<Required<BreakerOptions>>;

const defaults: ResolvedBreakerOptions = {
  consecutiveFailures: 5,
  failureRate: 0.5,
  minCalls: 20,
  windowMs: 10_000,
  openMs: 5_000,
  probes: 3,
  probeLeaseMs: 10_000,
};

/**
 * Fills in the defaults and refuses nonsense, once, before the first call.
 *
 * @param prefix Path of the options in error messages.
 * @throws InvalidOptionError when an option is unknown or out of range, or when no rule is left that
 * could open the breaker.
 */
export function resolveBreakerOptions(
  options: BreakerOptions = {},
  prefix = "breaker",

  also: readonly string[] = [],
): ResolvedBreakerOptions {
  knownKeys(prefix, options, Object.keys(defaults), also);
  const {
    consecutiveFailures = defaults.consecutiveFailures,
    failureRate = defaults.failureRate,
    minCalls = defaults.minCalls,
    windowMs = defaults.windowMs,
    openMs = defaults.openMs,
    probes = defaults.probes,
    probeLeaseMs = defaults.probeLeaseMs,
  } = options;
  if (consecutiveFailures === false && failureRate === false) {
    throw new InvalidOptionError(
      `${prefix}.failureRate`,
      "a number above 0 and up to 1 when consecutiveFailures is off too",
      failureRate,
    );
  }
  return Object.freeze({
    consecutiveFailures:
      consecutiveFailures !== false &&
      wholeNumber(`${prefix}.consecutiveFailures`, consecutiveFailures, 1),
    failureRate: failureRate !== false && ratio(`${prefix}.failureRate`, failureRate),
    minCalls: wholeNumber(`${prefix}.minCalls`, minCalls, 1),
    windowMs: durationMs(`${prefix}.windowMs`, windowMs, 1),
    openMs: durationMs(`${prefix}.openMs`, openMs, 1),
    probes: wholeNumber(`${prefix}.probes`, probes, 1, 1_000),
    probeLeaseMs: durationMs(`${prefix}.probeLeaseMs`, probeLeaseMs, 1),
  });
}
