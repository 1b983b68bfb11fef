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

/** What every call that waits needs of the policy that it waits for. */
export interface QueueHost {
  readonly clock: Clock;
  readonly report: ReportError;
}

/**
 * One call that waits, from entering to its one turn: a permit, a refusal, or leaving. It waits as long as it may, with
 * one timer that keeps the process alive.
 */
export abstract class QueuedCall implements Queued {
  readonly kind = "queued";
  readonly sinceMs: number;
  /** On the monotonic clock, `Infinity` for none. */
  readonly deadlineMs: number;
  /** How long it may wait, on the monotonic clock. */
  untilMs = Infinity;
  readonly #host: QueueHost;
  readonly #onGranted: OnGranted;
  #stopTimer: CancelTask | undefined;
  #over = false;
  #entered = false;
  #early: WaitResult | undefined;

  constructor(host: QueueHost, nowMs: number, deadlineMs: number, onGranted: OnGranted) {
    this.#host = host;
    this.sinceMs = nowMs;
    this.deadlineMs = deadlineMs;
    this.#onGranted = onGranted;
  }

  /** It has had its turn, or has left. */
  get over(): boolean {
    return this.#over;
  }

  /** Its wait ended by the clock: that was its deadline, and no bound of the policy's. */
  isLate(nowMs: number): boolean {
    // Timers may fire a fraction of a millisecond early, so the clock alone cannot name the bound.
    return this.untilMs === this.deadlineMs || nowMs >= this.deadlineMs;
  }

  /**
   * The answer of `enter`. What is told to others while this call enters may bring its turn at once;
   * then the turn is the answer, and the callback stays silent.
   */
  entered(): GateAnswer {
    this.#entered = true;
    return this.#early ?? this;
  }

  /** It waits until then, and no longer. */
  waitUntil(untilMs: number, nowMs: number): void {
    if (this.#over) return;
    this.#stopTimer?.();
    this.untilMs = untilMs;
    // A permit may be waiting, unread, in an answer.
    const timeUp = () => this.timeUp(this.#host.clock.now());
    this.#stopTimer =
      untilMs === Infinity
        ? undefined
        : expireAt(this.#host.clock, untilMs, untilMs - nowMs, timeUp);
  }

  /** Ends the wait of a call that is out of the queue already. */
  refuse(refusal: Refusal, nowMs: number = this.#host.clock.now()): void {
    if (this.finish()) this.deliver(refusal, nowMs);
  }

  leave(): boolean {
    if (!this.finish()) return false;
    this.left();
    return true;
  }

  /** It has waited for as long as it may. */
  protected abstract timeUp(nowMs: number): void;

  /** It gives its place up. */
  protected abstract left(): void;

  /** False when it has had its turn, or has left. */
  protected finish(): boolean {
    if (this.#over) return false;
    this.#over = true;
    this.#stopTimer?.();
    this.#stopTimer = undefined;
    return true;
  }

  protected deliver(turn: WaitResult, nowMs: number): void {
    if (!this.#entered) {
      this.#early = turn;
      return;
    }
    try {
      this.#onGranted(turn, nowMs - this.sinceMs);
    } catch (error) {
      if (!isRefusal(turn)) turn.settle("ignored");
      safely(this.#host.report, error, "onTurn");
    }
  }
}

/** Why a wait ended by the clock. */
export type WaitedOut = Extract<Reason, "QUEUE_TIMEOUT" | "DEADLINE_EXPIRED">;

/** What a policy with a semaphore does for those who wait for it. `T` is what it knows its calls by. */
export interface SemaphoreHost<T> extends QueueHost {
  /** The longest wait of a call, in milliseconds. `leftMs` is the time that it has, and may be infinite. */
  longestWaitMs(tag: T, leftMs: number): number;
  /** Makes the permit of a call to whom the semaphore has just granted one. */
  admit(tag: T, nowMs: number): Permit;
  /** Takes back what the semaphore granted to a call that can no longer use it. */
  giveBack(tag: T): void;
  waitedOut(tag: T, reason: WaitedOut, waitedMs: number): Refusal;
  left(tag: T): void;
  /** For a person: where a call waits, if there is more than one such place. */
  detailOf?(tag: T): string | undefined;
}

/** A call that waits for a semaphore: as long as the host lets it, or until its deadline, whichever is sooner. */
export class SemaphoreWaiter<T> extends QueuedCall implements Candidate {
  readonly tag: T;
  readonly #host: SemaphoreHost<T>;
  #waiter: { cancel(): boolean } | undefined;

  /** `deadlineMs` is on the monotonic clock; `Infinity` for none. */
  constructor(
    host: SemaphoreHost<T>,
    tag: T,
    nowMs: number,
    deadlineMs: number,
    onGranted: OnGranted,
  ) {
    super(host, nowMs, deadlineMs, onGranted);
    this.#host = host;
    this.tag = tag;
  }

  get detail(): string | undefined {
    return this.#host.detailOf?.(this.tag);
  }

  /** It stands in the queue: the wait begins. */
  wait(waiter: { cancel(): boolean }): void {
    const { sinceMs, deadlineMs } = this;
    this.#waiter = waiter;
    const limitMs = this.#host.longestWaitMs(this.tag, deadlineMs - sinceMs);
    this.waitUntil(Math.min(deadlineMs, sinceMs + limitMs), sinceMs);
  }

  grant(): void {
    const nowMs = this.#host.clock.now();
    this.finish();
    if (nowMs < this.deadlineMs) {
      this.deliver(this.#host.admit(this.tag, nowMs), nowMs);
      return;
    }
    // Its timer is late. Nobody waits for the answer any more; the next in the queue can use the permit.
    this.#host.giveBack(this.tag);
    this.#refuseWaitedOut("DEADLINE_EXPIRED", nowMs);
  }

  protected timeUp(nowMs: number): void {
    if (!this.finish()) return;
    this.#waiter?.cancel();
    this.#refuseWaitedOut(this.isLate(nowMs) ? "DEADLINE_EXPIRED" : "QUEUE_TIMEOUT", nowMs);
  }

  protected left(): void {
    this.#host.left(this.tag);
    this.#waiter?.cancel();
  }

  #refuseWaitedOut(reason: WaitedOut, nowMs: number): void {
    this.deliver(this.#host.waitedOut(this.tag, reason, nowMs - this.sinceMs), nowMs);
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
