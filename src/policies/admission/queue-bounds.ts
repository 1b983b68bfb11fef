import type { Priority } from "../../core/priority.js";
import { RecentMedian } from "../../core/stats/sample-window.js";
import type { AdmissionPoolOptions } from "./options.js";
import type { Slots } from "./slots.js";

/**
 * How many calls may wait, and how long. A burst is let wait for as long as its callers can spare, since it will be worked
 * off. A queue that stands will not: it makes all late and serves nobody more, so it is kept short (CoDel, RFC 8289).
 */
export class QueueBounds {
  readonly #options: AdmissionPoolOptions;
  readonly #latencyTarget: Pick<LatencyTarget, "ms">;
  readonly #slots: Pick<Slots, "count" | "atBestIn">;
  #burstMs: number;
  #standing = false;

  constructor(
    options: AdmissionPoolOptions,
    latencyTarget: Pick<LatencyTarget, "ms">,
    slots: Pick<Slots, "count" | "atBestIn">,
  ) {
    this.#options = options;
    this.#latencyTarget = latencyTarget;
    this.#slots = slots;
    this.#burstMs = options.burstWaitMs;
  }

  /** Somebody waits where nobody did. */
  begin(): void {
    const { burstWaitMs, maxWaitShare } = this.#options;
    // What callers as a rule can wait. The ceiling is half of what they come with.
    const sparedMs = 2 * maxWaitShare * (this.#latencyTarget.ms ?? Number.POSITIVE_INFINITY);
    this.#burstMs = Math.min(burstWaitMs, sparedMs);
  }

  /** Whether the queue has stood for so long that it is no burst. */
  see(standing: boolean): void {
    this.#standing = standing;
  }

  /** How many may wait: no more than get through in the longest wait. */
  get maxQueued(): number {
    const { maxQueued, minQueued, maxWaitMs } = this.#options;
    if (maxQueued !== undefined) return maxQueued;
    const waitMs = this.#standing ? Math.min(maxWaitMs, this.#burstMs) : this.#burstMs;
    const longest = Math.min(this.#slots.count, Math.floor(this.#slots.atBestIn(waitMs)));
    return Math.max(minQueued, longest);
  }

  /** The longest wait of a call that comes now with so much time, in milliseconds; its time may be infinite. */
  longestWaitMs(priority: Priority, leftMs: number): number {
    const { burstWaitMs, maxWaitMs, maxWaitShare } = this.#options;
    const { criticalMaxWaitMs, criticalWaitShare } = this.#options;
    return priority === "critical"
      ? Math.min(criticalMaxWaitMs, leftMs * criticalWaitShare)
      : Math.min(this.#standing ? maxWaitMs : burstWaitMs, leftMs * maxWaitShare);
  }
}

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
export class LatencyTarget {
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
