import { InvalidOptionError, ratio, readOptions } from "./options.js";
import { priorityRank } from "./priority.js";
import type { ServerLoad, ShedCall, Shedder } from "./shedder.js";

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

export type ResolvedThresholds = Readonly<Required<AdmissionThresholds>>;

/**
 * Refuses each priority from a load of its own; but nobody for the sake of those below: while a lower priority waits, it is
 * the one that has to go when the queue is full. And nobody who is owed a turn.
 */
export class LoadThresholds implements Shedder {
  readonly #thresholds: ResolvedThresholds;
  /** What is said of each, put together once: writing a fraction out costs more than to compare with it. */
  readonly #reached: Readonly<Record<keyof ResolvedThresholds, string>>;

  constructor(thresholds: ResolvedThresholds) {
    this.#thresholds = thresholds;
    const { low, normal, high } = thresholds;
    this.#reached = {
      low: `load has reached ${low} for low`,
      normal: `load has reached ${normal} for normal`,
      high: `load has reached ${high} for high`,
    };
  }

  judge({ priority }: ShedCall, { load, worstWaiting, owed }: ServerLoad): string | undefined {
    if (priority === "critical" || owed) return undefined;
    const threshold = this.#thresholds[priority];
    // At 1 the load can only say that the queue is full, and a full queue has a rule of its own. A share of whole
    // numbers may be a hair below the threshold that it is meant to be.
    if (threshold >= 1 || load < threshold - 1e-9) return undefined;
    if (worstWaiting !== undefined && priorityRank[worstWaiting] > priorityRank[priority]) {
      return undefined;
    }
    return this.#reached[priority];
  }
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveThresholds(given: AdmissionThresholds, path: string): ResolvedThresholds {
  const thresholds = readOptions(path, given, ["low", "normal", "high"]);
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
