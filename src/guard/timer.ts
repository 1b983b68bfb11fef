import { type CancelTask, type Clock, expireAt, type ScheduleOptions } from "../core/clock.js";
import { captureContext } from "../grpc/context/async-context.js";

/** Is called when a timeout expires. `lateMs`: how late that is, in milliseconds. It must not throw. */
export interface Expiring {
  expire(timer: GuardTimer, lateMs: number): void;
}

/** A running timeout, in the list of its timer. */
export interface RunningTimeout {
  readonly of: Expiring;
  /** When it expires, on the monotonic clock. */
  readonly dueMs: number;
  earlier: RunningTimeout | undefined;
  later: RunningTimeout | undefined;
}

/**
 * One timer of Node for all timeouts of the same length. The timeout that started first expires first, so a linked list
 * has them in order, and starting or stopping one costs a few pointers. A timer of Node for each would cost more than the
 * rest of a guarded run.
 *
 * The timer keeps the process alive while any timeout runs.
 */
export class GuardTimer {
  readonly ms: number;
  readonly #clock: Clock;
  // The timer outlives the run that armed it, so it must neither fire in the async context of that run nor retain it.
  readonly #restore = captureContext();
  #first: RunningTimeout | undefined;
  #last: RunningTimeout | undefined;
  #stopTimer: CancelTask | undefined;
  #stopping = false;

  constructor(clock: Clock, ms: number) {
    this.#clock = clock;
    this.ms = ms;
  }

  start(of: Expiring, nowMs: number): RunningTimeout {
    const last = this.#last;
    const time: RunningTimeout = { of, dueMs: nowMs + this.ms, earlier: last, later: undefined };
    this.#last = time;
    if (last === undefined) this.#first = time;
    else last.later = time;
    // A timer that is still armed fires for an earlier timeout, and is armed for the next one then.
    if (this.#stopTimer === undefined) this.#arm(time.dueMs, this.ms);
    return time;
  }

  /** To be called once at most, and not after the timeout has expired. */
  stop(time: RunningTimeout): void {
    this.#remove(time);
    if (this.#first === undefined && !this.#stopping) this.#stopWhenIdle();
  }

  #remove({ earlier, later }: RunningTimeout): void {
    if (earlier === undefined) this.#first = later;
    else earlier.later = later;
    if (later === undefined) this.#last = earlier;
    else later.earlier = earlier;
  }

  #arm(dueMs: number, delayMs: number): void {
    const fire = (lateMs: number) => this.#fire(dueMs + lateMs);
    this.#stopTimer = this.#restore(expireAt, this.#clock, dueMs, delayMs, fire);
  }

  /**
   * @param firedMs When the timer fired. Sockets have been read since then only, so a later timeout waits for its own
   *   turn.
   */
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

  /** No timeout runs. If none starts in this turn of the event loop, the timer is stopped. */
  #stopWhenIdle(): void {
    this.#stopping = true;
    this.#restore(() =>
      this.#clock.afterPoll(() => {
        this.#stopping = false;
        if (this.#first !== undefined) return;
        this.#stopTimer?.();
        this.#stopTimer = undefined;
      }),
    );
  }
}

/**
 * The clock of a bulkhead's queue. Most waits there have the same length, and share a {@link GuardTimer}. What it
 * schedules runs in no async context; a granted run restores its own.
 *
 * @param waitMs The length of most waits, in milliseconds.
 */
export function queueClock(clock: Clock, waitMs: number): Clock {
  const waits = new GuardTimer(clock, waitMs);
  return {
    now: () => clock.now(),
    wallNow: () => clock.wallNow(),
    afterPoll: (task) => clock.afterPoll(task),
    // A task comes from the policies of this package: no user's function.
    schedule(delayMs, task: () => void, options) {
      if (delayMs !== waitMs || options?.ref === false) {
        return clock.schedule(delayMs, task, options);
      }
      let timeout: RunningTimeout | undefined;
      const expire = () => {
        timeout = undefined;
        task();
      };
      timeout = waits.start({ expire }, clock.now());
      return () => {
        if (timeout !== undefined) waits.stop(timeout);
        timeout = undefined;
      };
    },
  };
}

/**
 * The clock of a guard's policies. It stands still while one run passes them, so that they share one reading: reading the
 * clock costs more than what the policies do with it.
 */
export class GuardClock implements Clock {
  readonly #clock: Clock;
  #held = false;
  #heldMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Reads the time and stands still until `release`. The user's work must not run in between. */
  hold(): number {
    this.#heldMs = this.#clock.now();
    this.#held = true;
    return this.#heldMs;
  }

  release(): void {
    this.#held = false;
  }

  now(): number {
    return this.#held ? this.#heldMs : this.#clock.now();
  }

  wallNow(): number {
    return this.#clock.wallNow();
  }

  schedule(delayMs: number, task: () => void, options?: ScheduleOptions): CancelTask {
    return this.#clock.schedule(delayMs, task, options);
  }

  afterPoll(task: () => void): CancelTask {
    return this.#clock.afterPoll(task);
  }
}
