import { type CancelTask, type Clock, expireAt, type ScheduleOptions } from "../core/clock.js";
import { captureContext } from "../grpc/context/async-context.js";

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

/**
 * The clock of a queue, in which most wait equally long: they share a timer. What is scheduled here runs in no one's
 * async context; turns find back into that of their run by themselves.
 */
export class QueueClock implements Clock {
  readonly #clock: Clock;
  readonly #waits: GuardTimer;

  /** @param waitMs How long most wait. */
  constructor(clock: Clock, waitMs: number) {
    this.#clock = clock;
    this.#waits = new GuardTimer(clock, waitMs);
  }

  now(): number {
    return this.#clock.now();
  }

  wallNow(): number {
    return this.#clock.wallNow();
  }

  schedule(delayMs: number, task: () => void, options?: ScheduleOptions): CancelTask {
    if (delayMs !== this.#waits.ms || options?.ref === false) {
      return this.#clock.schedule(delayMs, task, options);
    }
    let time: GuardTime | undefined;
    const expire = () => {
      time = undefined;
      task();
    };
    time = this.#waits.start({ expire }, this.#clock.now());
    return () => {
      if (time !== undefined) this.#waits.stop(time);
      time = undefined;
    };
  }

  afterPoll(task: () => void): CancelTask {
    return this.#clock.afterPoll(task);
  }
}

/**
 * The clock of a guard's policies. While one run passes them it stands still, so that they share one reading: a
 * reading costs more than the decisions that are made by it.
 */
export class GuardClock implements Clock {
  readonly #clock: Clock;
  #held = false;
  #heldMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Reads the time and stands still. Nothing of the user's may run before the `release`. */
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
