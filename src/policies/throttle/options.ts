import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  ratio,
  readOptions,
  wholeNumber,
} from "../../core/options.js";

/** When a client holds back attempts that their target would refuse. */
export interface ThrottleOptions {
  /** The window of the counts. 1 s to 24 days. @defaultValue 60_000 */
  readonly windowMs?: number;
  /**
   * How many requests are sent for each one that the target serves. Above 1 and up to 100. Nearer to 1, the target
   * spends less on refusals, and it takes more calls to notice its recovery. @defaultValue 1.5
   */
  readonly k?: number;
  /** With fewer requests in the window, nothing is held back. A whole number of at least 1. @defaultValue 10 */
  readonly minRequests?: number;
  /** The largest share of a priority that is held back. Above 0 and up to 1. @defaultValue 0.9 */
  readonly maxRejectRatio?: number;
  /** When no request has passed for so long, the next one does. 1 ms to 24 days. @defaultValue 1_000 */
  readonly forcedPassMs?: number;
  /**
   * A target has recovered when it has served everything for so long, and at least ten calls in a row (more with a small
   * `k`). Then its earlier refusals are dropped. 1 ms to 24 days. @defaultValue 1_000
   */
  readonly recoveryMs?: number;
  /**
   * Whether calls are held back that the target announces it would refuse (trailer `x-weir-admission`). That applies
   * to calls that name their priority, and never to `critical` ones. @defaultValue true
   */
  readonly collaborative?: boolean;
  /**
   * The share of such calls that is sent all the same, so that the target's recovery is noticed. 0 to 1.
   * @defaultValue 0.01
   */
  readonly probeRatio?: number;
}

export type ResolvedThrottleOptions = Readonly<Required<ThrottleOptions>>;

const known = [
  "windowMs",
  "k",
  "minRequests",
  "maxRejectRatio",
  "forcedPassMs",
  "recoveryMs",
  "collaborative",
  "probeRatio",
];

/**
 * Fills in the defaults.
 *
 * @throws InvalidOptionError for a value out of range or an unknown option.
 */
export function resolveThrottleOptions(
  given: ThrottleOptions,
  prefix = "throttle",
  also: readonly string[] = [],
): ResolvedThrottleOptions {
  const options = readOptions(prefix, given, known, also);
  const { windowMs = 60_000, k = 1.5, minRequests = 10, maxRejectRatio = 0.9 } = options;
  const { forcedPassMs = 1_000, recoveryMs = 1_000 } = options;
  const { collaborative = true, probeRatio = 0.01 } = options;
  if (typeof k !== "number" || !(k > 1 && k <= 100)) {
    throw new InvalidOptionError(`${prefix}.k`, "a number above 1 and up to 100", k);
  }
  if (typeof collaborative !== "boolean") {
    throw new InvalidOptionError(`${prefix}.collaborative`, "true or false", collaborative);
  }
  return Object.freeze({
    windowMs: durationMs(`${prefix}.windowMs`, windowMs, 1_000),
    k,
    minRequests: wholeNumber(`${prefix}.minRequests`, minRequests, 1),
    maxRejectRatio: ratio(`${prefix}.maxRejectRatio`, maxRejectRatio),
    forcedPassMs: durationMs(`${prefix}.forcedPassMs`, forcedPassMs, 1),
    recoveryMs: durationMs(`${prefix}.recoveryMs`, recoveryMs, 1),
    collaborative,
    probeRatio: finiteNumber(`${prefix}.probeRatio`, probeRatio, 0, 1),
  });
}
