import type { Priority } from "../../core/priority.js";
import { RecentMedian } from "../../core/stats/sample-window.js";
import type { AdmissionPoolOptions } from "./options.js";
import type { Slots } from "./slots.js";

/** Without an interval of the user's: that of a queue for slots, and the one where callers give no deadlines, in milliseconds. */
const slotIntervalMs = 100;
const patientIntervalMs = 500;

/**
 * The share of its time that a call may wait for the event loop in a burst. Handlers that compute are quick once they run, and
 * the queue of the loop is worked off in a time that is known.
 */
const loopWaitShare = 2 / 3;

/**
 * How many calls may wait, and for how long. In a burst calls wait for as long as their callers can spare, because the queue
 * will empty. A standing queue will not: it makes all calls late and serves no more of them, so it is kept short (CoDel,
 * RFC 8289).
 *
 * How long a slot is held is up to others, so a queue for slots counts as a standing one soon. What the event loop has to do
 * is known: the queue that a pause of the process leaves behind empties, and does harm only when it makes calls late.
 */
export class QueueBounds {
  /** They may be replaced while calls wait: a wait that has begun ends when it would have. */
  options: AdmissionPoolOptions;
  readonly #latencyTarget: Pick<LatencyTarget, "ms">;
  readonly #slots: Pick<Slots, "count" | "atBestIn">;
  #burstMs: number;
  #loopBurstMs: number;
  #loopIntervalMs = patientIntervalMs;
  #forLoop = false;
  #standing = false;

  constructor(
    options: AdmissionPoolOptions,
    latencyTarget: Pick<LatencyTarget, "ms">,
    slots: Pick<Slots, "count" | "atBestIn">,
  ) {
    this.options = options;
    this.#latencyTarget = latencyTarget;
    this.#slots = slots;
    this.#burstMs = options.burstWaitMs;
    this.#loopBurstMs = options.burstWaitMs;
  }

  /** The first call is queued. */
  begin(): void {
    const { burstWaitMs, maxWaitShare } = this.options;
    const targetMs = this.#latencyTarget.ms;
    this.#loopIntervalMs = Math.max(slotIntervalMs, targetMs ?? patientIntervalMs);
    // The share of the median time until their deadlines that callers can wait; the latency target is half of that time.
    const givenMs = 2 * (targetMs ?? Number.POSITIVE_INFINITY);
    this.#burstMs = Math.min(burstWaitMs, maxWaitShare * givenMs);
    this.#loopBurstMs = Math.min(burstWaitMs, this.#loopShare * givenMs);
  }

  /** @param forLoop A slot is free, and calls wait for the event loop alone. */
  waits(forLoop: boolean): void {
    this.#forLoop = forLoop;
  }

  /** A slot is free, and calls wait for the event loop alone. */
  get forLoop(): boolean {
    return this.#forLoop;
  }

  /** The share of its time that a call may wait for the event loop, while the queue is no standing one. */
  get #loopShare(): number {
    return Math.max(this.options.maxWaitShare, loopWaitShare);
  }

  /** A queue that has not been empty for so long, in milliseconds, is a standing one. */
  get intervalMs(): number {
    const { intervalMs } = this.options.queue;
    return intervalMs ?? (this.#forLoop ? this.#loopIntervalMs : slotIntervalMs);
  }

  /** Whether the queue is a standing one, and no burst. */
  setStanding(standing: boolean): void {
    this.#standing = standing;
  }

  /** How many calls may wait: no more than can run in the longest wait. */
  get maxQueued(): number {
    const { maxQueued, minQueued, maxWaitMs } = this.options;
    if (maxQueued !== undefined) return maxQueued;
    const burstMs = this.#forLoop ? this.#loopBurstMs : this.#burstMs;
    const waitMs = this.#standing ? Math.min(maxWaitMs, this.#burstMs) : burstMs;
    const longest = Math.min(this.#slots.count, Math.floor(this.#slots.atBestIn(waitMs)));
    return Math.max(minQueued, longest);
  }

  /** The longest wait of a call that comes now, in milliseconds. `leftMs` until its deadline, may be `Infinity`. */
  longestWaitMs(priority: Priority, leftMs: number): number {
    const { burstWaitMs, maxWaitMs, maxWaitShare } = this.options;
    const { criticalMaxWaitMs, criticalWaitShare } = this.options;
    if (priority === "critical") return Math.min(criticalMaxWaitMs, leftMs * criticalWaitShare);
    if (this.#standing) return Math.min(maxWaitMs, leftMs * maxWaitShare);
    return Math.min(burstWaitMs, leftMs * (this.#forLoop ? this.#loopShare : maxWaitShare));
  }
}

/** How many of the last deadlines count, and how many are needed before there is a target. */
const kept = 101;
const needed = 20;
/** The most of one turn of the event loop that calls may take: in milliseconds, and as a share of the target. */
const turnMs = 20;
const turnShare = 1 / 8;

/** A deadline counts for at least so many times what calls of its method usually take. */
const usualTimes = 3;

/**
 * How long calls should take at most: half of the median time that recent callers gave. Callers that give less time than
 * such calls usually take are not counted, so that they cannot bring the target down to what healthy calls need.
 */
export class LatencyTarget {
  readonly #deadlines = new RecentMedian(kept);

  /**
   * Notes how much time a caller gave.
   *
   * @param leftMs Milliseconds until the deadline; `Infinity` without one, which is not counted.
   * @param usualMs How long such calls usually take, in milliseconds; 0 where that is not known.
   */
  note(leftMs: number, usualMs = 0): void {
    if (leftMs === Number.POSITIVE_INFINITY || leftMs < usualMs) return;
    this.#deadlines.add(Math.max(leftMs, usualTimes * usualMs));
  }

  /** The target in milliseconds; `undefined` while too few calls have deadlines. */
  get ms(): number | undefined {
    const median = this.#deadlines.median(needed);
    return median === undefined ? undefined : median / 2;
  }

  /** The most that calls may take of one turn of the event loop, in milliseconds. */
  get turnMs(): number {
    return Math.min(turnMs, turnShare * (this.ms ?? Number.POSITIVE_INFINITY));
  }
}
