import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  ratio,
  readOptions,
  wholeNumber,
} from "../../core/options.js";

export interface ThrottleOptions {
  /** How far back requests are remembered, in milliseconds, from 1_000 to 24 days. @defaultValue 60_000 */
  readonly windowMs?: number;
  /**
   * Requests that are sent for each one that the target serves, above 1 and up to 100. Nearer to 1, less
   * work of the target goes into refusals, and it takes more calls until its recovery is noticed. @defaultValue 1.5
   */
  readonly k?: number;
  /** Requests in the window before anything is held back, a whole number of at least 1. @defaultValue 10 */
  readonly minRequests?: number;
  /** The largest share of a priority that is held back, above 0 and up to 1. @defaultValue 0.9 */
  readonly maxRejectRatio?: number;
  /** When nothing has passed for so many milliseconds, the next request does. 1 to 24 days. @defaultValue 1_000 */
  readonly forcedPassMs?: number;
  /**
   * When a target has served all that it was sent for so long, and some calls in a row (ten; with a small `k` more), what it
   * did not serve before is forgotten. 1 to 24 days. @defaultValue 1_000
   */
  readonly recoveryMs?: number;
  /**
   * Whether calls are held back that the target itself says it would refuse (trailer `x-weir-admission`). It holds
   * for calls that name their priority, and never for `critical`. @defaultValue true
   */
  readonly collaborative?: boolean;
  /**
   * The share of calls, from 0 to 1, that passes although the target says that it would refuse them, so that its
   * recovery is noticed. @defaultValue 0.01
   */
  readonly probeRatio?: number;
}

export type ResolvedThrottleOptions = Readonly<Required<ThrottleOptions>>;

const keys = [
  "windowMs",
  "k",
  "minRequests",
  "maxRejectRatio",
  "forcedPassMs",
  "recoveryMs",
  "collaborative",
  "probeRatio",
];

/** Fills in the defaults. Throws `InvalidOptionError` for a value out of range or an unknown option. */
export function resolveThrottleOptions(
  given: ThrottleOptions,
  prefix = "throttle",
  also: readonly string[] = [],
): ResolvedThrottleOptions {
  const options = readOptions(prefix, given, keys, also);
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
