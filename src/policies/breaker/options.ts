import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  maxDurationMs,
  ratio,
  readOptions,
  wholeNumber,
} from "../../core/options.js";

/** When a breaker opens, how long it rests, and how it finds its way back. */
export interface BreakerOptions {
  /**
   * So many failures in a row open the breaker, however far apart in time: a rare call that always
   * fails opens it too. A failure lengthens the row only if its call began when the one before was known: calls that
   * fail together are one event. A call that the other side sheds neither lengthens nor ends the row. At least 1;
   * `false` switches the rule off. @defaultValue 5
   */
  readonly consecutiveFailures?: number | false;
  /**
   * This share of failed calls in the window opens the breaker, if they are of at least three events. Above 0, up to 1;
   * `false` switches the rule off. @defaultValue 0.5
   */
  readonly failureRate?: number | false;
  /**
   * A call that takes longer is slow, whether it fails or not. 1 ms to 24 days; `false` leaves the time
   * out of account. @defaultValue false
   */
  readonly slowMs?: number | false;
  /**
   * This share of slow calls in the window opens the breaker. Above 0, up to 1. Only together with
   * `slowMs`. @defaultValue 0.8
   */
  readonly slowRate?: number;
  /**
   * With fewer calls than this in the window, the rates say nothing. At least 1.
   * @defaultValue 20, or `windowCalls` if that is less
   */
  readonly minCalls?: number;
  /** How far back the rates look, in tenths. 1 ms to 24 days. @defaultValue 10_000 */
  readonly windowMs?: number;
  /**
   * The rates look at so many last calls, however old, and not at `windowMs`. 1 to 10_000; `false`
   * for a window by time. @defaultValue false
   */
  readonly windowCalls?: number | false;
  /**
   * A call that is under way for so long counts as failed before it ends, and its end then counts for
   * nothing. For callers that would wait much longer than that. 1 ms to 24 days; `false` waits for the
   * end of every call. @defaultValue false
   */
  readonly inFlightMs?: number | false;
  /** The first rest before probes. 1 ms to 24 days. @defaultValue 500 */
  readonly openMs?: number;
  /**
   * Each rest is so many times the one before, while probes fail. 1 to 10; 1 for rests that do not grow. With 1.2, a
   * rest is never longer than `openMs` and a fifth of the time that the target has been away. @defaultValue 1.2
   */
  readonly openFactor?: number;
  /**
   * No rest grows beyond this, and no server can ask for a longer one. From `openMs` to 24 days.
   * @defaultValue 12 times `openMs`: 6_000
   */
  readonly maxOpenMs?: number;
  /**
   * A rest is up to this share shorter or longer, by chance, so that many clients do not come back at
   * once. 0 to 0.9. @defaultValue 0.2
   */
  readonly openJitter?: number;
  /** How many probes may be out at once while half-open. 1 to 1_000. @defaultValue 3 */
  readonly probes?: number;
  /** So many probes must succeed to close the breaker. 1 to 1_000. @defaultValue as many as `probes` */
  readonly successesToClose?: number;
  /**
   * How long a probe may hold its place. One that takes longer gives it back and counts for nothing,
   * so set it above the time-out of an attempt. 1 ms to 24 days. @defaultValue 10_000
   */
  readonly probeLeaseMs?: number;
  /**
   * Once closed, a breaker lets a quarter of the calls through, and then more and more, until after so
   * long it lets all through. 1 ms to 24 days; `false` lets all through at once.
   * @defaultValue as long as `openMs`: 500
   */
  readonly rampMs?: number | false;
}

/** Checked, complete and frozen. */
export type ResolvedBreakerOptions = Readonly<Required<BreakerOptions>>;

const names: readonly string[] = Object.keys({
  consecutiveFailures: 0,
  failureRate: 0,
  slowMs: 0,
  slowRate: 0,
  minCalls: 0,
  windowMs: 0,
  windowCalls: 0,
  inFlightMs: 0,
  openMs: 0,
  openFactor: 0,
  maxOpenMs: 0,
  openJitter: 0,
  probes: 0,
  successesToClose: 0,
  probeLeaseMs: 0,
  rampMs: 0,
} satisfies Record<keyof BreakerOptions, 0>);

/**
 * Fills in the defaults and refuses nonsense, once, before the first call.
 *
 * @param prefix Path of the options in error messages.
 * @param also Options that somebody else has taken out already.
 * @throws InvalidOptionError when an option is unknown or out of range, or when no rule is left that
 * could open the breaker.
 */
export function resolveBreakerOptions(
  given: BreakerOptions = {},
  prefix = "breaker",
  also: readonly string[] = [],
): ResolvedBreakerOptions {
  const options = readOptions(prefix, given, names, also);
  const rules = resolveRules(options, prefix);
  const { openMs = 500, openFactor = 1.2, openJitter = 0.2 } = options;
  const restMs = durationMs(`${prefix}.openMs`, openMs, 1);
  const { probes = 3, probeLeaseMs = 10_000, rampMs = restMs } = options;
  // Who says how long the first rest is has a scale of time in mind, and so these follow it.
  const { maxOpenMs = Math.min(12 * restMs, maxDurationMs), successesToClose = probes } = options;
  return Object.freeze({
    ...rules,
    openMs: restMs,
    openFactor: finiteNumber(`${prefix}.openFactor`, openFactor, 1, 10),
    maxOpenMs: durationMs(`${prefix}.maxOpenMs`, maxOpenMs, restMs),
    openJitter: finiteNumber(`${prefix}.openJitter`, openJitter, 0, 0.9),
    probes: wholeNumber(`${prefix}.probes`, probes, 1, 1_000),
    successesToClose: wholeNumber(`${prefix}.successesToClose`, successesToClose, 1, 1_000),
    probeLeaseMs: durationMs(`${prefix}.probeLeaseMs`, probeLeaseMs, 1),
    rampMs: rampMs !== false && durationMs(`${prefix}.rampMs`, rampMs, 1),
  });
}

type Rules = Pick<
  ResolvedBreakerOptions,
  | "consecutiveFailures"
  | "failureRate"
  | "slowMs"
  | "slowRate"
  | "minCalls"
  | "windowMs"
  | "windowCalls"
  | "inFlightMs"
>;

/** What opens a breaker. */
function resolveRules(options: BreakerOptions, prefix: string): Rules {
  const { consecutiveFailures = 5, failureRate = 0.5, slowMs = false, slowRate = 0.8 } = options;
  if (consecutiveFailures === false && failureRate === false && slowMs === false) {
    throw new InvalidOptionError(
      `${prefix}.failureRate`,
      "a number above 0 and up to 1 when consecutiveFailures and slowMs are off too",
      failureRate,
    );
  }
  if (slowMs === false && options.slowRate !== undefined) {
    throw new InvalidOptionError(
      `${prefix}.slowRate`,
      "absent without slowMs, which says what is slow",
      options.slowRate,
    );
  }
  const { windowMs = 10_000, windowCalls = false, inFlightMs = false } = options;
  const size =
    windowCalls !== false && wholeNumber(`${prefix}.windowCalls`, windowCalls, 1, 10_000);
  const most = size === false ? Number.MAX_SAFE_INTEGER : size;
  const { minCalls = Math.min(20, most) } = options;
  return {
    consecutiveFailures:
      consecutiveFailures !== false &&
      wholeNumber(`${prefix}.consecutiveFailures`, consecutiveFailures, 1),
    failureRate: failureRate !== false && ratio(`${prefix}.failureRate`, failureRate),
    slowMs: slowMs !== false && durationMs(`${prefix}.slowMs`, slowMs, 1),
    slowRate: ratio(`${prefix}.slowRate`, slowRate),
    minCalls: wholeNumber(`${prefix}.minCalls`, minCalls, 1, most),
    windowMs: durationMs(`${prefix}.windowMs`, windowMs, 1),
    windowCalls: size,
    inFlightMs: inFlightMs !== false && durationMs(`${prefix}.inFlightMs`, inFlightMs, 1),
  };
}
