import type { CancelTask, Clock, ScheduleOptions } from "../core/clock.js";
import { type GuardTime, GuardTimer } from "./guard-timer.js";

/**
 * The clock of a queue, in which most wait equally long: they share a timer. What is scheduled here runs in no one's
 * async context; turns find back into that of their run by themselves.
 */
export class GuardQueueClock implements Clock {
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
