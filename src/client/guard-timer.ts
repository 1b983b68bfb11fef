import type { CancelTask, Clock } from "../core/clock.js";
import { expireAt } from "../core/expiry.js";
import { captureContext } from "../grpc/async-context.js";

/** Something that has a time to end by. It stands in one timer at most. */
export abstract class Timed {
  /** On the monotonic clock; `Infinity` while no timer runs for it. */
  dueMs = Number.POSITIVE_INFINITY;
  /** Its neighbours in the timer. */
  earlier: Timed | undefined = undefined;
  later: Timed | undefined = undefined;

  /** Its time is up, and it stands in the timer no longer. It must not throw. */
  abstract expire(): void;
}

/**
 * One timer for all that may take equally long: who came first is due first, so a list is all it takes to know who
 * is next. Starting and stopping cost a few pointers; a timer of Node costs more than the rest of a guarded run.
 *
 * The timer is ref'ed as long as anything stands in it.
 */
export class GuardTimer {
  readonly ms: number;
  readonly #clock: Clock;
  // The timer outlives whoever armed it, so it must not run in their async context, nor keep it.
  readonly #restore = captureContext();
  #first: Timed | undefined;
  #last: Timed | undefined;
  #stopTimer: CancelTask | undefined;
  #resting = false;

  constructor(clock: Clock, ms: number) {
    this.#clock = clock;
    this.ms = ms;
  }

  start(timed: Timed, nowMs: number): void {
    timed.dueMs = nowMs + this.ms;
    const last = this.#last;
    this.#last = timed;
    timed.earlier = last;
    if (last === undefined) this.#first = timed;
    else last.later = timed;
    // A timer that runs still was armed for somebody earlier; it looks who is next when it fires.
    if (this.#stopTimer === undefined) this.#arm(timed.dueMs, this.ms);
  }

  /** Takes it out. Does nothing to one that does not stand here. */
  stop(timed: Timed): void {
    if (timed.dueMs === Number.POSITIVE_INFINITY) return;
    this.#remove(timed);
    if (this.#first === undefined && !this.#resting) this.#rest();
  }

  #remove(timed: Timed): void {
    const { earlier, later } = timed;
    if (earlier === undefined) this.#first = later;
    else earlier.later = later;
    if (later === undefined) this.#last = earlier;
    else later.earlier = earlier;
    timed.earlier = undefined;
    timed.later = undefined;
    timed.dueMs = Number.POSITIVE_INFINITY;
  }

  #arm(dueMs: number, delayMs: number): void {
    this.#stopTimer = this.#restore(expireAt, this.#clock, dueMs, delayMs, this.#fire);
  }

  readonly #fire = (): void => {
    const nowMs = this.#clock.now();
    for (;;) {
      const first = this.#first;
      if (first === undefined) {
        this.#stopTimer = undefined;
        return;
      }
      if (first.dueMs > nowMs) {
        this.#arm(first.dueMs, first.dueMs - nowMs);
        return;
      }
      this.#remove(first);
      first.expire();
    }
  };

  /** Nobody stands here. Who comes in the same turn of the loop finds the timer armed; else it is taken down. */
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
