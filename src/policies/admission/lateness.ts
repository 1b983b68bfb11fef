import { Keyed } from "../../core/keyed.js";
import type { Outcome } from "../../core/permit.js";

/** Answers of a method from which its usual time is learnt at once. */
const batchSize = 32;
/**
 * Time constants, in milliseconds, with which the usual time follows calls that become slower: while calls are in time, and
 * while they are late.
 */
const learnMs = 300_000;
const learnLateMs = 3_000_000;
/** A call that takes more than so many times the slow ones is slower than usual. */
const tailTimes = 1.2;
/** What is left of the time of the slow calls after a batch that has none. */
const tailFades = 0.9;
/** A call is held up when it takes so many times what is usual, and half of the time that its caller gave. */
const usualTimes = 1.5;
/** A call without a deadline is held up when it takes so many times what is usual, and at least a second. */
const unboundedTimes = 10;
const unboundedMs = 1_000;
/** Calls are late when at least so many, and at least this share, ran out of time within the last one to two seconds. */
const fewestLate = 3;
const lateShare = 0.05;
/** The share of calls that ran out of time from which most calls are late. */
const ranOutShare = 0.5;
/** Length of a window of calls, in milliseconds. The present one and the one before count. */
const windowMs = 1_000;

/** What lateness needs to know of a call. */
export interface TimedCall {
  readonly method?: string;
  /** In milliseconds on the monotonic clock, `Infinity` for none. */
  readonly deadlineMs: number;
}

/**
 * Tells from the calls that ended whether calls are late.
 *
 * Each call is compared with its own method and its own deadline, so that neither a caller with a short deadline nor a slow
 * method says anything of other calls.
 *
 * - *Held up*: the call took longer than half of its caller's time, and longer than such calls usually take.
 * - *Late*: it ran out of a time that is usually enough.
 * - A call with less time than such calls usually need is not counted when it runs out of it.
 *
 * The usual time of a method is learnt from its answers: at once when they become faster, slowly when they become slower, so
 * that an overload does not become usual.
 */
export class Lateness {
  readonly #usual = new Keyed(() => new UsualTime());
  /** Since `takeHeldUp`. */
  #ended = 0;
  #heldUp = 0;
  /** Since `takeSlowed`. */
  #timed = 0;
  #slowed = 0;
  /** When the present window began. */
  #sinceMs = Number.NEGATIVE_INFINITY;
  #now = { ended: 0, late: 0, ranOut: 0 };
  #before = { ended: 0, late: 0, ranOut: 0 };

  /** How long calls of a method usually take, in milliseconds; `undefined` until enough were answered. */
  usualMs(method = ""): number | undefined {
    return this.#usual.get(method).ms;
  }

  /**
   * Counts a call that has ended and ran since `sinceMs`. False when its outcome is no evidence: it ran out of a time that is
   * less than such calls usually need.
   */
  record(call: TimedCall, sinceMs: number, nowMs: number, outcome: Outcome): boolean {
    if (outcome === "ignored") return false;
    const usual = this.#usual.get(call.method ?? "");
    const { ms: usualMs, tailMs } = usual;
    const tookMs = nowMs - sinceMs;
    if (outcome === "success") this.answered(call, tookMs, nowMs);
    // Without a usual time there is nothing to compare it with.
    if (usualMs === undefined) return true;
    this.#timed += 1;
    if (tookMs > usualTimes * usualMs) this.#slowed += 1;
    const leftMs = call.deadlineMs - sinceMs;
    const neededMs = Math.max(usualTimes * usualMs, tailTimes * tailMs);
    if (leftMs < neededMs) return outcome === "success";
    const unbounded = leftMs === Number.POSITIVE_INFINITY;
    const allowedMs = unbounded
      ? Math.max(unboundedTimes * usualMs, tailTimes * tailMs, unboundedMs)
      : Math.max(leftMs / 2, neededMs);
    this.#advance(nowMs);
    this.#ended += 1;
    this.#now.ended += 1;
    if (tookMs <= allowedMs) return true;
    this.#heldUp += 1;
    const ranOut = nowMs >= call.deadlineMs;
    if (unbounded || ranOut) this.#now.late += 1;
    if (ranOut) this.#now.ranOut += 1;
    return true;
  }

  /** A handler has answered, in time or after its caller has left. Its method learns from it. */
  answered({ method = "" }: TimedCall, tookMs: number, nowMs: number): void {
    this.#usual.get(method).add(tookMs, nowMs, this.isLate(nowMs) ? learnLateMs : learnMs);
  }

  /** The share of calls, from 0 to 1, that were held up since the last time this was called. */
  takeHeldUp(): number {
    const share = this.#ended === 0 ? 0 : this.#heldUp / this.#ended;
    this.#ended = 0;
    this.#heldUp = 0;
    return share;
  }

  /** The share of calls, from 0 to 1, that took longer than usual since the last time this was called. */
  takeSlowed(): number {
    const share = this.#timed === 0 ? 0 : this.#slowed / this.#timed;
    this.#timed = 0;
    this.#slowed = 0;
    return share;
  }

  /** Calls that could have been served in time were late, within the last one to two seconds. */
  isLate(nowMs: number): boolean {
    this.#advance(nowMs);
    return this.#areMany(this.#now.late + this.#before.late, lateShare);
  }

  /** Half of the calls ran out of a time that is usually enough. Calls without a deadline are not among them. */
  ranOut(nowMs: number): boolean {
    this.#advance(nowMs);
    return this.#areMany(this.#now.ranOut + this.#before.ranOut, ranOutShare);
  }

  #areMany(count: number, share: number): boolean {
    return count >= fewestLate && count >= share * (this.#now.ended + this.#before.ended);
  }

  #advance(nowMs: number): void {
    const passedMs = nowMs - this.#sinceMs;
    if (passedMs < windowMs) return;
    const spare = this.#before;
    this.#before = this.#now;
    if (passedMs >= 2 * windowMs) this.#before = { ended: 0, late: 0, ranOut: 0 };
    this.#now = spare;
    spare.ended = 0;
    spare.late = 0;
    spare.ranOut = 0;
    this.#sinceMs = nowMs;
  }
}

/** How long calls of one method usually take. */
class UsualTime {
  ms: number | undefined;
  /**
   * What its slow calls take, in milliseconds. A method may have quick and slow answers, such as from a cache and from the
   * source of the value: then the slow ones are usual, too.
   */
  tailMs = 0;
  readonly #batch = new Float64Array(batchSize);
  #size = 0;
  #learntMs = 0;

  /** @param followMs Time constant with which it follows calls that became slower, in milliseconds. */
  add(tookMs: number, nowMs: number, followMs: number): void {
    this.#batch[this.#size] = tookMs;
    this.#size += 1;
    if (this.#size < batchSize) return;
    this.#size = 0;
    this.#batch.sort();
    const median = this.#batch[batchSize >> 1] ?? 0;
    const slow = this.#batch[batchSize - 1] ?? 0;
    const before = this.ms;
    const sinceMs = nowMs - this.#learntMs;
    this.#learntMs = nowMs;
    if (before === undefined) {
      this.ms = median;
      this.tailMs = slow;
      return;
    }
    const slower = 1 - Math.exp(-sinceMs / followMs);
    this.ms = median <= before ? median : before + (median - before) * slower;
    // A batch may by chance have no slow call.
    const faded = Math.max(slow, tailFades * this.tailMs);
    this.tailMs = Math.min(faded, this.tailMs + Math.max(0, slow - this.tailMs) * slower);
  }
}
