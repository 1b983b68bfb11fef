import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  ratio,
  readOptions,
  wholeNumber,
} from "../../core/options.js";
import { renamedOptions } from "../../core/renamed-options.js";

/**
 * When a client holds back attempts that their target would refuse.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/throttle.md
 */
export interface ThrottleOptions {
  /** The window of the counts. 1 s to 24 days. @defaultValue 60_000 */
  readonly windowMs?: number;
  /**
   * How many requests are sent for each one that the target serves. Above 1 and up to 100. Nearer to 1, the target
   * spends less on refusals, and it takes more calls to notice its recovery. @defaultValue 1.5
   */
  readonly k?: number;
  /** With fewer requests in the window, nothing is held back. A whole number of at least 1. @defaultValue 10 */
  readonly minCalls?: number;
  /** The largest share of a priority that is held back. Above 0 and up to 1. @defaultValue 0.9 */
  readonly maxRefusedShare?: number;
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
  readonly passShare?: number;
}

export type ResolvedThrottleOptions = Readonly<Required<ThrottleOptions>>;

const known = [
  "windowMs",
  "k",
  "minCalls",
  "maxRefusedShare",
  "forcedPassMs",
  "recoveryMs",
  "collaborative",
  "passShare",
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
  const options = readOptions(prefix, given, known, also, renamedOptions("Throttle"));
  const { windowMs = 60_000, k = 1.5, minCalls = 10, maxRefusedShare = 0.9 } = options;
  const { forcedPassMs = 1_000, recoveryMs = 1_000 } = options;
  const { collaborative = true, passShare = 0.01 } = options;
  if (typeof k !== "number" || !(k > 1 && k <= 100)) {
    throw new InvalidOptionError(`${prefix}.k`, "a number above 1 and up to 100", k);
  }
  if (typeof collaborative !== "boolean") {
    throw new InvalidOptionError(`${prefix}.collaborative`, "true or false", collaborative);
  }
  return Object.freeze({
    windowMs: durationMs(`${prefix}.windowMs`, windowMs, 1_000),
    k,
    minCalls: wholeNumber(`${prefix}.minCalls`, minCalls, 1),
    maxRefusedShare: ratio(`${prefix}.maxRefusedShare`, maxRefusedShare),
    forcedPassMs: durationMs(`${prefix}.forcedPassMs`, forcedPassMs, 1),
    recoveryMs: durationMs(`${prefix}.recoveryMs`, recoveryMs, 1),
    collaborative,
    passShare: finiteNumber(`${prefix}.passShare`, passShare, 0, 1),
  });
}
