import { RecentMedian } from "./recent-median.js";

/** Deadlines that are kept, and how many it needs. */
const kept = 101;
const needed = 20;
/** The most that calls may take of one turn of the event loop, and as a share of the ceiling. */
const turnMs = 20;
const turnShare = 1 / 8;

/** A deadline never counts for less than so many times what such calls usually take. */
const usualTimes = 3;

/**
 * How long calls may take before something is wrong: half of the median deadline that callers give of late. Callers that
 * give less than calls usually take say nothing, and nobody brings it down to where calls that wait for nothing stand.
 */
export class LatencyCeiling {
  readonly #deadlines = new RecentMedian(kept);

  /**
   * A call has come with so much time; `Infinity` for one without a deadline.
   *
   * @param usualMs How long such calls usually take, as far as it is known.
   */
  see(leftMs: number, usualMs = 0): void {
    if (leftMs === Number.POSITIVE_INFINITY || leftMs < usualMs) return;
    this.#deadlines.add(Math.max(leftMs, usualTimes * usualMs));
  }

  /** In milliseconds; `undefined` while too few calls have deadlines. */
  get ms(): number | undefined {
    const median = this.#deadlines.median(needed);
    return median === undefined ? undefined : median / 2;
  }

  /** The most that calls may take of one turn of the event loop, in milliseconds. */
  get turnMs(): number {
    return Math.min(turnMs, turnShare * (this.ms ?? Number.POSITIVE_INFINITY));
  }
}
