import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  maxDurationMs,
  ratio,
  readOptions,
  unlessFalse,
  wholeNumber,
} from "../../core/options.js";

/**
 * When a breaker opens, how long it stays open, and how it closes again.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/breaker.md
 */
export interface BreakerOptions {
  /**
   * After this many consecutive failures the breaker opens, however far apart in time they are: a rare call that always
   * fails opens it too. A failure counts here only if its call began after the previous failure was known, because calls
   * that fail together are one event. A call that the server sheds neither adds to the failures nor resets them.
   * At least 1; `false` switches the rule off. @defaultValue 5
   */
  readonly consecutiveFailures?: number | false;
  /**
   * When this share of the calls in the window has failed, the breaker opens, if the failures come from at least three
   * independent events. Above 0 and up to 1; `false` switches the rule off. @defaultValue 0.5
   */
  readonly failureRate?: number | false;
  /**
   * A call that takes longer is slow, whether it fails or not. 1 ms to 24 days; `false` for no such rule.
   * @defaultValue false
   */
  readonly slowMs?: number | false;
  /**
   * When this share of the calls in the window was slow, the breaker opens. Above 0 and up to 1. Only together with
   * `slowMs`. @defaultValue 0.8
   */
  readonly slowRate?: number;
  /**
   * With fewer calls than this in the window, the rates do not open the breaker. At least 1.
   * @defaultValue 20, or `windowCalls` if that is less
   */
  readonly minCalls?: number;
  /** The length of the window, which slides by tenths of it. 1 ms to 24 days. @defaultValue 10_000 */
  readonly windowMs?: number;
  /**
   * The window holds this many last calls, however old, instead of those of `windowMs`. 1 to 10_000; `false`
   * for a window by time. @defaultValue false
   */
  readonly windowCalls?: number | false;
  /**
   * A call that has been in flight for so long counts as failed at once, and its end is not counted. For callers
   * that would wait much longer than that. 1 ms to 24 days; `false` waits for the end of every call.
   * @defaultValue false
   */
  readonly inFlightMs?: number | false;
  /** The first open period, before probes. 1 ms to 24 days. @defaultValue 250 */
  readonly openMs?: number;
  /**
   * While probes fail, each open period is this many times the one before, up to `maxOpenMs`. 1 to 10; with 1 they do
   * not grow. With 1.2, a period is never longer than `openMs` plus a fifth of the time that the target has been down.
   * @defaultValue 1.2
   */
  readonly openFactor?: number;
  /**
   * The longest open period, also if a server asks for a longer wait. From `openMs` to 24 days.
   * @defaultValue 3 times `openMs`: 750
   */
  readonly maxOpenMs?: number;
  /**
   * Jitter: an open period is up to this share shorter or longer, so that many clients do not come back at once.
   * 0 to 0.9. @defaultValue 0.2
   */
  readonly openJitter?: number;
  /** How many probes may run at once while half-open. 1 to 1_000. @defaultValue 3 */
  readonly probes?: number;
  /** How many probes must succeed to close the breaker. 1 to 1_000. @defaultValue as many as `probes` */
  readonly successesToClose?: number;
  /**
   * How long a probe may hold its slot. One that takes longer gives it back and is not counted, so set this above the
   * timeout of an attempt. 1 ms to 24 days. @defaultValue 10_000
   */
  readonly probeLeaseMs?: number;
  /**
   * The length of the ramp. When the breaker closes, it admits a quarter of the calls, and a share that grows linearly
   * until it admits all. 1 ms to 24 days; `false` admits all at once.
   * @defaultValue as long as `openMs`: 250
   */
  readonly rampMs?: number | false;
}

/** Checked, complete and frozen. */
export type ResolvedBreakerOptions = Readonly<Required<BreakerOptions>>;

const known: readonly string[] = Object.keys({
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
 * @param also Names of further options, which the caller has read. Used in the message about an unknown option.
 * @throws InvalidOptionError when an option is unknown or out of range, or when all rules are switched off.
 */
export function resolveBreakerOptions(
  given: BreakerOptions = {},
  prefix = "breaker",
  also: readonly string[] = [],
): ResolvedBreakerOptions {
  const options = readOptions(prefix, given, known, also);
  const rules = resolveRules(options, prefix);
  const { openMs = 250, openFactor = 1.2, openJitter = 0.2 } = options;
  const firstMs = durationMs(`${prefix}.openMs`, openMs, 1);
  const { probes = 3, probeLeaseMs = 10_000, rampMs = firstMs } = options;
  // These defaults scale with the first open period.
  const { maxOpenMs = Math.min(3 * firstMs, maxDurationMs), successesToClose = probes } = options;
  return Object.freeze({
    ...rules,
    openMs: firstMs,
    openFactor: finiteNumber(`${prefix}.openFactor`, openFactor, 1, 10),
    maxOpenMs: durationMs(`${prefix}.maxOpenMs`, maxOpenMs, firstMs),
    openJitter: finiteNumber(`${prefix}.openJitter`, openJitter, 0, 0.9),
    probes: wholeNumber(`${prefix}.probes`, probes, 1, 1_000),
    successesToClose: wholeNumber(`${prefix}.successesToClose`, successesToClose, 1, 1_000),
    probeLeaseMs: durationMs(`${prefix}.probeLeaseMs`, probeLeaseMs, 1),
    rampMs: unlessFalse(`${prefix}.rampMs`, rampMs, atLeastOneMs),
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

/** The rules that open a breaker. */
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
  const size = unlessFalse(`${prefix}.windowCalls`, windowCalls, (option, value) =>
    wholeNumber(option, value, 1, 10_000),
  );
  const most = size === false ? Number.MAX_SAFE_INTEGER : size;
  const { minCalls = Math.min(20, most) } = options;
  return {
    consecutiveFailures: unlessFalse(
      `${prefix}.consecutiveFailures`,
      consecutiveFailures,
      (option, value) => wholeNumber(option, value, 1),
    ),
    failureRate: unlessFalse(`${prefix}.failureRate`, failureRate, ratio),
    slowMs: unlessFalse(`${prefix}.slowMs`, slowMs, atLeastOneMs),
    slowRate: ratio(`${prefix}.slowRate`, slowRate),
    minCalls: wholeNumber(`${prefix}.minCalls`, minCalls, 1, most),
    windowMs: durationMs(`${prefix}.windowMs`, windowMs, 1),
    windowCalls: size,
    inFlightMs: unlessFalse(`${prefix}.inFlightMs`, inFlightMs, atLeastOneMs),
  };
}

function atLeastOneMs(option: string, value: number): number {
  return durationMs(option, value, 1);
}
