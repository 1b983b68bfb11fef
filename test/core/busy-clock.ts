import type { Clock } from "../../src/core/clock.js";

interface Task {
  readonly dueMs: number;
  readonly run: () => void;
}

/** Node rounds its timers to whole milliseconds, so that some run a little before they are due. */
const earlyMs = 0.5;

/** A clock of a process that may be too busy to run its timers: they run in `turn`, however late. */
export class BusyClock implements Clock {
  #nowMs = 0;
  #timers: Task[] = [];
  #polls: Task[] = [];

  now(): number {
    return this.#nowMs;
  }

  wallNow(): number {
    return this.#nowMs;
  }

  schedule(delayMs: number, run: () => void): () => void {
    const task = { dueMs: this.#nowMs + delayMs, run };
    this.#timers.push(task);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== task);
    };
  }

  afterPoll(run: () => void): () => void {
    const task = { dueMs: this.#nowMs, run };
    this.#polls.push(task);
    return () => {
      this.#polls = this.#polls.filter((other) => other !== task);
    };
  }

  /** Time passes, and no timer runs. */
  busy(ms: number): void {
    this.#nowMs += ms;
  }

  /** One turn of the event loop: due timers, then what arrived meanwhile, then the after-poll tasks. */
  turn(arrived: () => void = () => {}): void {
    const due = this.#timers.filter((task) => task.dueMs <= this.#nowMs + earlyMs);
    due.sort((a, b) => a.dueMs - b.dueMs);
    for (const task of due) {
      if (!this.#timers.includes(task)) continue;
      this.#timers = this.#timers.filter((other) => other !== task);
      task.run();
    }
    arrived();
    for (const task of this.#polls.splice(0)) task.run();
  }

  get pending(): number {
    return this.#timers.length + this.#polls.length;
  }
}
