import type { CancelTask, Clock } from "../core/clock.js";
import { expireAt } from "../core/expiry.js";
import { captureContext } from "../grpc/async-context.js";

/** What is told when a time is up, and how late that is told, in milliseconds. It must not throw. */
export interface Expiring {
  expire(timer: GuardTimer, lateMs: number): void;
}

/** A time that is running. Its neighbours in the timer come before and after it. */
export interface GuardTime {
  readonly of: Expiring;
  readonly dueMs: number;
  earlier: GuardTime | undefined;
  later: GuardTime | undefined;
}

/**
 * One timer for all that may take equally long: who came first is due first, so a list is all it takes to know who
 * is next. Starting and stopping cost a few pointers; a timer of Node costs more than the rest of a guarded run.
 *
 * The timer is ref'ed as long as any time runs.
 */
export class GuardTimer {
  readonly ms: number;
  readonly #clock: Clock;
  // The timer outlives whoever armed it, so it must not run in their async context, nor keep it.
  readonly #restore = captureContext();
  #first: GuardTime | undefined;
  #last: GuardTime | undefined;
  #stopTimer: CancelTask | undefined;
  #resting = false;

  constructor(clock: Clock, ms: number) {
    this.#clock = clock;
    this.ms = ms;
  }

  start(of: Expiring, nowMs: number): GuardTime {
    const last = this.#last;
    const time: GuardTime = { of, dueMs: nowMs + this.ms, earlier: last, later: undefined };
    this.#last = time;
    if (last === undefined) this.#first = time;
    else last.later = time;
    // A timer that runs still was armed for somebody earlier; it looks who is next when it fires.
    if (this.#stopTimer === undefined) this.#arm(time.dueMs, this.ms);
    return time;
  }

  /** Once for each time that is not up. */
  stop(time: GuardTime): void {
    this.#remove(time);
    if (this.#first === undefined && !this.#resting) this.#rest();
  }

  #remove({ earlier, later }: GuardTime): void {
    if (earlier === undefined) this.#first = later;
    else earlier.later = later;
    if (later === undefined) this.#last = earlier;
    else later.earlier = earlier;
  }

  #arm(dueMs: number, delayMs: number): void {
    const fire = (lateMs: number) => this.#fire(dueMs + lateMs);
    this.#stopTimer = this.#restore(expireAt, this.#clock, dueMs, delayMs, fire);
  }

  /** @param firedMs When the timer fired; the sockets have been read since then. What is due later has to look itself. */
  #fire(firedMs: number): void {
    for (;;) {
      const first = this.#first;
      if (first === undefined) {
        this.#stopTimer = undefined;
        return;
      }
      if (first.dueMs > firedMs) {
        this.#arm(first.dueMs, Math.max(0, first.dueMs - this.#clock.now()));
        return;
      }
      this.#remove(first);
      first.of.expire(this, firedMs - first.dueMs);
    }
  }

  /** No time runs. Who comes in the same turn of the loop finds the timer armed; else it is taken down. */
  #rest(): void {
    this.#resting = true;
    this.#restore(() =>
      this.#clock.afterPoll(() => {
        this.#resting = false;
        if (this.#first !== undefined) return;
        this.#stopTimer?.();
        this.#stopTimer = undefined;
      }),
    );
  }
}
