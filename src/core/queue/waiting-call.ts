import { type CancelTask, type Clock, expireAt } from "../clock.js";
import type { Reason } from "../decision.js";
import {
  type GateAnswer,
  isRefusal,
  type OnGranted,
  type Permit,
  type Queued,
  type Refusal,
  type WaitResult,
} from "../permit.js";
import { type ReportError, safely } from "../user-code.js";

/** Why a wait ended by the clock. */
export type WaitedOut = Extract<Reason, "QUEUE_TIMEOUT" | "DEADLINE_EXPIRED">;

/** What a policy with a queue does for those who wait in it. `T` is what it knows its calls by. */
export interface QueueHost<T> {
  readonly clock: Clock;
  /** The longest wait of a call, in milliseconds. `leftMs` is the time that it has, and may be infinite. */
  longestWaitMs(tag: T, leftMs: number): number;
  readonly report: ReportError;
  /** Makes the permit of a call to whom the semaphore has just granted one. */
  admit(tag: T, nowMs: number): Permit;
  /** Takes back what the semaphore granted to a call that can no longer use it. */
  giveBack(tag: T): void;
  waitedOut(tag: T, reason: WaitedOut, waitedMs: number): Refusal;
  left(tag: T): void;
  /** For a person: where a call waits, if there is more than one such place. */
  detailOf?(tag: T): string | undefined;
}

/**
 * One call in a queue, from entering to its one turn: a permit, a refusal, or leaving. It waits as
 * long as the host lets it, or until its deadline, whichever is sooner, with one timer that keeps the process alive.
 */
export class QueuedCall<T> implements Queued, Candidate {
  readonly kind = "queued";
  readonly tag: T;
  readonly #host: QueueHost<T>;
  readonly #sinceMs: number;
  readonly #deadlineMs: number;
  readonly #onGranted: OnGranted;
  #waiter: { cancel(): boolean } | undefined;
  #stopTimer: CancelTask | undefined;
  #done = false;
  #entered = false;
  #early: WaitResult | undefined;

  /** `deadlineMs` is on the monotonic clock; `Infinity` for none. */
  constructor(host: QueueHost<T>, tag: T, nowMs: number, deadlineMs: number, onGranted: OnGranted) {
    this.#host = host;
    this.tag = tag;
    this.#sinceMs = nowMs;
    this.#deadlineMs = deadlineMs;
    this.#onGranted = onGranted;
  }

  get detail(): string | undefined {
    return this.#host.detailOf?.(this.tag);
  }

  /** It stands in the queue: the wait begins. */
  wait(waiter: { cancel(): boolean }): void {
    if (this.#done) return;
    this.#waiter = waiter;
    const leftMs = this.#deadlineMs - this.#sinceMs;
    const limitMs = this.#host.longestWaitMs(this.tag, leftMs);
    const byDeadline = leftMs <= limitMs;
    const waitMs = byDeadline ? leftMs : limitMs;
    const dueMs = this.#sinceMs + waitMs;
    // A permit may be waiting, unread, in an answer.
    this.#stopTimer = expireAt(this.#host.clock, dueMs, waitMs, () => this.#expire(byDeadline));
  }

  /**
   * The answer of `enter`. What is told to others while this call enters may bring its turn at once;
   * then the turn is the answer, and the callback stays silent.
   */
  entered(): GateAnswer {
    this.#entered = true;
    return this.#early ?? this;
  }

  grant(): void {
    const nowMs = this.#host.clock.now();
    this.#finish();
    if (nowMs >= this.#deadlineMs) {
      // Its timer is late. Nobody waits for the answer any more; the next in the queue can use the permit.
      this.#host.giveBack(this.tag);
      this.#refuseWaitedOut("DEADLINE_EXPIRED", nowMs);
      return;
    }
    this.#deliver(this.#host.admit(this.tag, nowMs), nowMs);
  }

  /** Ends the wait of a call that the policy has already taken out of the queue. */
  refuse(refusal: Refusal): void {
    if (this.#done) return;
    this.#finish();
    this.#deliver(refusal, this.#host.clock.now());
  }

  leave(): boolean {
    if (this.#done) return false;
    this.#finish();
    this.#host.left(this.tag);
    this.#waiter?.cancel();
    return true;
  }

  #expire(byDeadline: boolean): void {
    if (this.#done) return;
    const nowMs = this.#host.clock.now();
    this.#finish();
    this.#waiter?.cancel();
    // Timers may fire a fraction of a millisecond early, so the clock alone cannot name the bound.
    const reason = byDeadline || nowMs >= this.#deadlineMs ? "DEADLINE_EXPIRED" : "QUEUE_TIMEOUT";
    this.#refuseWaitedOut(reason, nowMs);
  }

  #refuseWaitedOut(reason: WaitedOut, nowMs: number): void {
    this.#deliver(this.#host.waitedOut(this.tag, reason, nowMs - this.#sinceMs), nowMs);
  }

  #finish(): void {
    this.#done = true;
    this.#stopTimer?.();
    this.#stopTimer = undefined;
  }

  #deliver(turn: WaitResult, nowMs: number): void {
    if (!this.#entered) {
      this.#early = turn;
      return;
    }
    try {
      this.#onGranted(turn, nowMs - this.#sinceMs);
    } catch (error) {
      if (!isRefusal(turn)) turn.settle("ignored");
      safely(this.#host.report, error, "onTurn");
    }
  }
}

/** Something that waits for a permit. */
export interface Candidate {
  /**
   * The permit is the candidate's now, and has to be released. Runs inside the call that freed it.
   * An error thrown here keeps nobody else waiting: it is thrown on after the others were served,
   * and the permit still counts as taken.
   */
  grant(): void;
}

/** A candidate's place in the queue. */
export interface Waiter<C extends Candidate> {
  readonly candidate: C;
  readonly rank: number;
  /** Leaves the queue. False when it has left already: by a grant, an eviction, or a cancel. */
  cancel(): boolean;
}
