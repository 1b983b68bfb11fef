import type { CancelTask, Clock, ScheduleOptions } from "../core/clock.js";

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
