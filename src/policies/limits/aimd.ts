import type { Evidence, Limit } from "./limit.js";

export interface AimdOptions {
  /** The limit at the start, a whole number from `min` to `max`. @defaultValue `max` */
  readonly initial?: number;
  /** The lowest limit, a whole number from 1 to `max`. @defaultValue 8, or `max` when that is lower */
  readonly min?: number;
  /** The highest limit, a whole number from 1 to 1,000,000. @defaultValue 1_000 */
  readonly max?: number;
  /** The factor for the limit after a call that failed or took too long, from 0.5 to 0.999. @defaultValue 0.9 */
  readonly backoffRatio?: number;
  /** A call that takes longer counts as a failure. In milliseconds, from 1 to 24 days. @defaultValue 5_000 */
  readonly maxLatencyMs?: number;
}

/**
 * Additive increase, multiplicative decrease, as in TCP: the limit grows by one for each call that was served while at least
 * half of the limit was in use, and shrinks by a tenth after a failure (AIMDLimit of Netflix concurrency-limits).
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
      // Calls that were admitted before the last decrease say nothing about the limit since then.
      if (nowMs - tookMs < this.#backedOffMs) return;
      this.#backedOffMs = nowMs;
      this.#limit = Math.max(min, this.#limit * backoffRatio);
    } else if (inFlight * 2 >= this.#limit) {
      // TCP would grow by one after as many calls as the limit; the original grows by one after each call.
      this.#limit = Math.min(max, this.#limit + 1);
    }
  }
}
