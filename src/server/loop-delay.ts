import type { CancelTask, Clock } from "../core/clock.js";

/** How often the loop is asked to be on time. It costs 0.7 % of a core; every millisecond would cost ten times as much. */
const everyMs = 20;
/** A delay that is over for so long says nothing of the calls that come now, however long nobody asked. */
const recentMs = 1_000;

/**
 * The longest that anything waited for the event loop, by the lateness of a timer.
 *
 * Node has a histogram for this, `monitorEventLoopDelay`. But after each `reset` it leaves the first tick out, and where a
 * turn of the loop takes longer than the time between two readings, it has no tick that counts: it reads 0 just when
 * nothing is served any more.
 */
export class LoopDelay {
  readonly #clock: Pick<Clock, "now" | "schedule">;
  #stop: CancelTask = () => {};
  #dueMs = 0;
  #longestMs = 0;
  /** When the longest was over. */
  #overMs = 0;

  constructor(clock: Pick<Clock, "now" | "schedule">) {
    this.#clock = clock;
    this.#wait(clock.now());
  }

  /**
   * In milliseconds, since the last time it was taken, but no longer ago than a second; a delay that goes on counts as far
   * as it is.
   */
  take(): number {
    const nowMs = this.#clock.now();
    const pastMs = nowMs - this.#overMs <= recentMs ? this.#longestMs : 0;
    this.#longestMs = 0;
    return Math.max(pastMs, nowMs - this.#dueMs);
  }

  stop(): void {
    this.#stop();
  }

  #wait(nowMs: number): void {
    this.#dueMs = nowMs + everyMs;
    const weakly = new WeakRef(this);
    // Nobody's process stays alive for this, and it ends with whoever reads it: servers come and go.
    const tick = () => {
      const delay = weakly.deref();
      if (delay !== undefined) delay.#tick();
    };
    this.#stop = this.#clock.schedule(everyMs, tick, { ref: false });
  }

  #tick(): void {
    const nowMs = this.#clock.now();
    const lateMs = nowMs - this.#dueMs;
    if (lateMs >= this.#longestMs || nowMs - this.#overMs > recentMs) {
      this.#longestMs = lateMs;
      this.#overMs = nowMs;
    }
    this.#wait(nowMs);
  }
}
