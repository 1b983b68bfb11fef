import type { Evidence, Limit } from "./limit.js";

export interface AimdOptions {
  /** Where it starts. @defaultValue `max` */
  readonly initial?: number;
  /** @defaultValue 8 */
  readonly min?: number;
  /** @defaultValue 1_000 */
  readonly max?: number;
  /** What it is multiplied by after a failure or a call that took too long, from 0.5 up to 1. @defaultValue 0.9 */
  readonly backoffRatio?: number;
  /** A call that runs longer counts as a failure. 1 ms to 24 days. @defaultValue 5_000 */
  readonly maxLatencyMs?: number;
}

/**
 * Additive increase, multiplicative decrease, as TCP does it: one more after a call that ended well while the limit was
 * in use, a tenth less after one that did not (Netflix concurrency-limits, AIMDLimit).
 */
export class AimdLimit implements Limit {
  readonly #options: Required<AimdOptions>;
  #limit: number;
  #backedOffMs = Number.NEGATIVE_INFINITY;

  constructor(options: Required<AimdOptions>) {
    this.#options = options;
    this.#limit = options.initial;
  }

  get current(): number {
    return Math.floor(this.#limit);
  }

  record(nowMs: number, tookMs: number, inFlight: number, outcome: Evidence): void {
    const { min, max, backoffRatio, maxLatencyMs } = this.#options;
    if (outcome === "failure" || tookMs > maxLatencyMs) {
      // Calls that were admitted before the last step down say nothing about the limit since.
      if (nowMs - tookMs < this.#backedOffMs) return;
      this.#backedOffMs = nowMs;
      this.#limit = Math.max(min, this.#limit * backoffRatio);
    } else if (inFlight * 2 >= this.#limit) {
      // One more for each limit's worth of calls would be TCP's; one for each call is what the original does.
      this.#limit = Math.min(max, this.#limit + 1);
    }
  }
}
