import type { CancelTask, Clock, ScheduleOptions } from "../core/clock.js";

/**
 * The clock of a guard's policies. While one run passes them it stands still, so that they share one reading: a
 * reading costs more than the decisions that are made by it.
 */
export class GuardClock implements Clock {
  readonly #clock: Clock;
  #heldMs = Number.NaN;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Reads the time and stands still. Nothing of the user's may run before the `release`. */
  hold(): number {
    this.#heldMs = this.#clock.now();
    return this.#heldMs;
  }

  release(): void {
    this.#heldMs = Number.NaN;
  }

  now(): number {
    const heldMs = this.#heldMs;
    // Only NaN is no equal of itself.
    return heldMs === heldMs ? heldMs : this.#clock.now();
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
