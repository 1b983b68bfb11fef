import { performance } from "node:perf_hooks";

/** How often the loop is asked to be on time. It costs 0.7 % of a core; every millisecond would cost ten times as much. */
const everyMs = 20;

/**
 * The longest that anything waited for the event loop, by the lateness of a timer.
 *
 * Node has a histogram for this, `monitorEventLoopDelay`. But after each `reset` it leaves the first tick out, and where a
 * turn of the loop takes longer than the time between two readings, it has no tick that counts: it reads 0 just when
 * nothing is served any more.
 */
export class LoopDelay {
  readonly #timer: NodeJS.Timeout;
  #dueMs = performance.now() + everyMs;
  #longestMs = 0;

  constructor() {
    this.#timer = setInterval(() => this.#tick(), everyMs);
    // Nobody's process stays alive for this.
    this.#timer.unref();
  }

  /** In milliseconds, since the last time it was taken; a delay that goes on counts as far as it is. */
  take(): number {
    const longestMs = Math.max(this.#longestMs, performance.now() - this.#dueMs);
    this.#longestMs = 0;
    return longestMs;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const nowMs = performance.now();
    this.#longestMs = Math.max(this.#longestMs, nowMs - this.#dueMs);
    this.#dueMs = nowMs + everyMs;
  }
}
