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
import { type ReportError, reportSafely } from "../user-code.js";

/** What a queued call needs of the policy whose queue it stands in. */
export interface QueueHost {
  readonly clock: Clock;
  /** Told of an `onGranted` that throws. */
  readonly report: ReportError;
}

/**
 * One call in a queue, until it is granted a permit, is refused, or leaves. Whichever comes first counts, and its callback
 * is called once. The timer of its wait keeps the process alive.
 */
export abstract class QueuedCall implements Queued {
  readonly kind = "queued";
  readonly sinceMs: number;
  /** This and the time below are on the monotonic clock. The deadline of the call; `Infinity` for none. */
  readonly deadlineMs: number;
  /** When its wait ends at the latest; `Infinity` while nothing bounds it. */
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

  /** It has been granted a permit, has been refused, or has left. */
  get over(): boolean {
    return this.#over;
  }

  /** Whether a wait that the clock ended was ended by the deadline of the call, and not by a bound of the policy. */
  isLate(nowMs: number): boolean {
    // A timer may fire a fraction of a millisecond early, so comparing with the clock is not enough.
    return this.untilMs === this.deadlineMs || nowMs >= this.deadlineMs;
  }

  /**
   * The answer for `enter` to return. Queueing this call may grant it a permit at once, through the callbacks of other
   * calls; then that permit is the answer, and `onGranted` is never called.
   */
  entered(): GateAnswer {
    this.#entered = true;
    return this.#early ?? this;
  }

  /** Sets, or moves, the end of its wait. */
  waitUntil(untilMs: number, nowMs: number): void {
    if (this.#over) return;
    this.#stopTimer?.();
    this.untilMs = untilMs;
    // `expireAt`, because the answer that would free a permit may have arrived already and not be read yet.
    const timeUp = () => this.timeUp(this.#host.clock.now());
    this.#stopTimer =
      untilMs === Infinity
        ? undefined
        : expireAt(this.#host.clock, untilMs, untilMs - nowMs, timeUp);
  }

  /** Refuses the call, which the policy has taken out of its queue. */
  refuse(refusal: Refusal, nowMs: number = this.#host.clock.now()): void {
    if (this.finish()) this.deliver(refusal, nowMs);
  }

  leave(): boolean {
    if (!this.finish()) return false;
    this.left();
    return true;
  }

  /** Its wait has come to `untilMs`. */
  protected abstract timeUp(nowMs: number): void;

  /** The caller has left: takes the call out of the queue. */
  protected abstract left(): void;

  /** Ends the wait and its timer. False when it was over already. */
  protected finish(): boolean {
    if (this.#over) return false;
    this.#over = true;
    this.#stopTimer?.();
    this.#stopTimer = undefined;
    return true;
  }

  /** Tells the result of a wait that `finish` has ended. */
  protected deliver(result: WaitResult, nowMs: number): void {
    if (!this.#entered) {
      this.#early = result;
      return;
    }
    try {
      this.#onGranted(result, nowMs - this.sinceMs);
    } catch (error) {
      if (!isRefusal(result)) result.settle("ignored");
      reportSafely(this.#host.report, error, "onGranted");
    }
  }
}

/** Why the clock ended a wait. */
export type WaitedOut = Extract<Reason, "QUEUE_TIMEOUT" | "DEADLINE_EXPIRED">;

/** What a policy with slots does for the calls that wait for one. `T` is the policy's own record of a call. */
export interface SemaphoreHost<T> extends QueueHost {
  /** The longest wait of a call, in milliseconds. `leftMs` is the time until its deadline, and may be infinite. */
  longestWaitMs(tag: T, leftMs: number): number;
  /** Makes the permit of a call that has just been granted a slot. */
  admit(tag: T, nowMs: number): Permit;
  /** Takes back the slot of a call whose deadline passed before it was granted. */
  giveBack(tag: T): void;
  /** Makes the refusal of a call that has waited for too long. */
  waitedOut(tag: T, reason: WaitedOut, waitedMs: number): Refusal;
  /** A call has left the queue. */
  left(tag: T): void;
  /** For people: which queue a call waits in, where the policy has several. */
  detailOf?(tag: T): string | undefined;
}

/** A call that waits for a slot, as long as the policy lets it, or until its deadline, whichever is sooner. */
export class SemaphoreWaiter<T> extends QueuedCall {
  readonly tag: T;
  readonly #host: SemaphoreHost<T>;
  #waiter: { cancel(): boolean } | undefined;

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

  /** Starts the wait of a call that stands in the queue. `waiter` takes it out again. */
  wait(waiter: { cancel(): boolean }): void {
    const { sinceMs, deadlineMs } = this;
    this.#waiter = waiter;
    const limitMs = this.#host.longestWaitMs(this.tag, deadlineMs - sinceMs);
    this.waitUntil(Math.min(deadlineMs, sinceMs + limitMs), sinceMs);
  }

  /** The slot is free for it: ends its wait with a permit. */
  grant(): void {
    const nowMs = this.#host.clock.now();
    this.finish();
    if (nowMs < this.deadlineMs) {
      this.deliver(this.#host.admit(this.tag, nowMs), nowMs);
      return;
    }
    // The timer of its deadline is late. The slot goes to the next call in the queue.
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
