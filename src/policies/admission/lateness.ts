import { Keyed } from "../../core/keyed.js";
import type { Outcome } from "../../core/permit.js";

/** Answers from which the usual time of a method is learnt at once. */
const lessonSize = 32;
/** How long it takes until calls that became slower count as usual, while nothing is late and while something is. */
const learnMs = 300_000;
const learnLateMs = 3_000_000;
/** A call that takes so many times what the slow ones take is none of them. */
const tailTimes = 1.2;
/** What is left of the time of the slow ones after a lesson without any. */
const tailFades = 0.9;
/** A call is held up when it takes so many times what is usual, and half of the time that its caller gave. */
const usualTimes = 1.5;
/** The same of a call whose caller gave no time, which is never less than a second. */
const patience = 10;
const patientMs = 1_000;
/** Calls are late when so many of them, and this share, ran out of time within a second or two. */
const fewestLate = 3;
const lateShare = 0.05;
/** Most calls are late when this share ran out of time. */
const ranOutShare = 0.5;
const spanMs = 1_000;

/** A call that ran, as far as it tells whether calls are late. */
export interface TimedCall {
  readonly method?: string;
  /** On the monotonic clock, `Infinity` for none. */
  readonly deadlineMs: number;
}

/**
 * Tells whether calls are late, by those that ended.
 *
 * Each call is measured by its own method and its own deadline, so that what one caller gives, or what one method takes,
 * says nothing of the others: a call is held up when it took longer than half of its caller's time *and* longer than such
 * calls usually take, and it is late when it ran out of a time that would usually have done. A caller that asks for more
 * than there is says nothing.
 *
 * What is usual is learnt from answers, quickly where they become faster and slowly where they become slower, so that an
 * overload is not taken for usual.
 */
export class Lateness {
  readonly #usual = new Keyed(() => new UsualTime());
  #ended = 0;
  #heldUp = 0;
  #sinceMs = Number.NEGATIVE_INFINITY;
  #now = { ended: 0, late: 0, ranOut: 0 };
  #before = { ended: 0, late: 0, ranOut: 0 };

  /** How long calls of a method usually take, in milliseconds; `undefined` while too few were answered. */
  usualMs(method = ""): number | undefined {
    return this.#usual.get(method).ms;
  }

  /**
   * A call has ended that ran since `sinceMs`. Answers whether that says anything: a call that had less time than such
   * calls usually need, and ran out of it, says something about its caller.
   */
  record(call: TimedCall, sinceMs: number, nowMs: number, outcome: Outcome): boolean {
    if (outcome === "ignored") return false;
    const usual = this.#usual.get(call.method ?? "");
    const { ms: usualMs, tailMs } = usual;
    const tookMs = nowMs - sinceMs;
    if (outcome === "success") this.answered(call, tookMs, nowMs);
    // What is not known yet is no evidence.
    if (usualMs === undefined) return true;
    const leftMs = call.deadlineMs - sinceMs;
    const neededMs = Math.max(usualTimes * usualMs, tailTimes * tailMs);
    if (leftMs < neededMs) return outcome === "success";
    const unbounded = leftMs === Number.POSITIVE_INFINITY;
    const allowedMs = unbounded
      ? Math.max(patience * usualMs, tailTimes * tailMs, patientMs)
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

  /** A handler has answered, in time or for nobody any more. */
  answered({ method = "" }: TimedCall, tookMs: number, nowMs: number): void {
    this.#usual.get(method).add(tookMs, nowMs, this.isLate(nowMs) ? learnLateMs : learnMs);
  }

  /** The share of the calls since the last time this was taken that were held up. */
  takeHeldUp(): number {
    const share = this.#ended === 0 ? 0 : this.#heldUp / this.#ended;
    this.#ended = 0;
    this.#heldUp = 0;
    return share;
  }

  /** Calls that could have been served in time were not, within the last second or two. */
  isLate(nowMs: number): boolean {
    this.#advance(nowMs);
    return this.#areMany(this.#now.late + this.#before.late, lateShare);
  }

  /** Half of the calls ran out of such a time. One without a deadline has none: what its caller waits is not known. */
  ranOut(nowMs: number): boolean {
    this.#advance(nowMs);
    return this.#areMany(this.#now.ranOut + this.#before.ranOut, ranOutShare);
  }

  #areMany(count: number, share: number): boolean {
    return count >= fewestLate && count >= share * (this.#now.ended + this.#before.ended);
  }

  #advance(nowMs: number): void {
    const passedMs = nowMs - this.#sinceMs;
    if (passedMs < spanMs) return;
    const spare = this.#before;
    this.#before = this.#now;
    if (passedMs >= 2 * spanMs) this.#before = { ended: 0, late: 0, ranOut: 0 };
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
   * What the slow ones among them take. A method may do two things, such as answer from a cache or ask for the value: then
   * the slow ones are no less usual than the others.
   */
  tailMs = 0;
  readonly #lesson = new Float64Array(lessonSize);
  #size = 0;
  #learntMs = 0;

  /** @param spanMs How long it takes until a slower time is the usual one. */
  add(tookMs: number, nowMs: number, spanMs: number): void {
    this.#lesson[this.#size] = tookMs;
    this.#size += 1;
    if (this.#size < lessonSize) return;
    this.#size = 0;
    this.#lesson.sort();
    const median = this.#lesson[lessonSize >> 1] ?? 0;
    const slow = this.#lesson[lessonSize - 1] ?? 0;
    const before = this.ms;
    const sinceMs = nowMs - this.#learntMs;
    this.#learntMs = nowMs;
    if (before === undefined) {
      this.ms = median;
      this.tailMs = slow;
      return;
    }
    const slower = 1 - Math.exp(-sinceMs / spanMs);
    this.ms = median <= before ? median : before + (median - before) * slower;
    // A lesson may by chance have none of the slow ones.
    const faded = Math.max(slow, tailFades * this.tailMs);
    this.tailMs = Math.min(faded, this.tailMs + Math.max(0, slow - this.tailMs) * slower);
  }
}
