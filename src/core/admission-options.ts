import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  knownKeys,
  ratio,
  wholeNumber,
} from "./options.js";

/**
 * Loads, above 0 and up to 1, from which a priority is refused. Load is (running + queued) divided by
 * (limit + maxQueued). They rise with the priority: low ≤ normal ≤ high. 1 is no threshold: such calls
 * are refused only when nothing is left, neither a permit nor a place nor a worse call to evict.
 */
export interface AdmissionThresholds {
  /** @defaultValue 0.70 */
  readonly low?: number;
  /** @defaultValue 0.85 */
  readonly normal?: number;
  /** @defaultValue 0.95 */
  readonly high?: number;
}

export interface AdmissionOptions {
  /** Calls that may run at once, a whole number of at least 1. @defaultValue 100 */
  readonly limit?: number;
  /** Calls that may wait, a whole number; 0 for no queue. @defaultValue the limit */
  readonly maxQueued?: number;
  /**
   * The longest wait in milliseconds, up to 24 days; 0 for no queue. A call's own deadline ends its wait
   * sooner. @defaultValue 100
   */
  readonly maxWaitMs?: number;
  readonly thresholds?: AdmissionThresholds;
  /**
   * Share of the limit, from 0 to 1, by which critical calls may exceed it; rounded up to whole calls.
   * @defaultValue 0.1
   */
  readonly criticalHeadroom?: number;
  /**
   * Whether callers are told which priorities have no prospect at present (trailer `x-weir-admission`), so that they
   * need not send them. @defaultValue true
   */
  readonly publish?: boolean;
}

export interface ResolvedAdmissionOptions extends Readonly<Required<AdmissionOptions>> {
  readonly thresholds: Readonly<Required<AdmissionThresholds>>;
}

const keys = ["limit", "maxQueued", "maxWaitMs", "thresholds", "criticalHeadroom", "publish"];

/** Fills in the defaults. Throws `InvalidOptionError` for a value out of range or an unknown option. */
export function resolveAdmissionOptions(
  options: AdmissionOptions,
  prefix = "admission",

  also: readonly string[] = [],
): ResolvedAdmissionOptions {
  knownKeys(prefix, options, keys, also);
  const { limit = 100, maxWaitMs = 100, thresholds = {}, criticalHeadroom = 0.1 } = options;
  const checkedLimit = wholeNumber(`${prefix}.limit`, limit, 1);
  const { maxQueued = checkedLimit, publish = true } = options;
  if (typeof publish !== "boolean") {
    throw new InvalidOptionError(`${prefix}.publish`, "true or false", publish);
  }
  return Object.freeze({
    limit: checkedLimit,
    maxQueued: wholeNumber(`${prefix}.maxQueued`, maxQueued, 0),
    maxWaitMs: durationMs(`${prefix}.maxWaitMs`, maxWaitMs),
    thresholds: resolveThresholds(thresholds, `${prefix}.thresholds`),
    criticalHeadroom: finiteNumber(`${prefix}.criticalHeadroom`, criticalHeadroom, 0, 1),
    publish,
  });
}

function resolveThresholds(
  thresholds: AdmissionThresholds,
  path: string,
): ResolvedAdmissionOptions["thresholds"] {
  knownKeys(path, thresholds, ["low", "normal", "high"]);
  const low = ratio(`${path}.low`, thresholds.low === undefined ? 0.7 : thresholds.low);
  const normal = ratio(
    `${path}.normal`,
    thresholds.normal === undefined ? 0.85 : thresholds.normal,
  );
  const high = ratio(`${path}.high`, thresholds.high === undefined ? 0.95 : thresholds.high);
  if (low > normal) {
    throw new InvalidOptionError(`${path}.low`, `at most ${path}.normal, ${normal}`, low);
  }
  if (normal > high) {
    throw new InvalidOptionError(`${path}.normal`, `at most ${path}.high, ${high}`, normal);
  }
  return Object.freeze({ low, normal, high });
}
