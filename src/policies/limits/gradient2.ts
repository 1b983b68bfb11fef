import { SampleWindow, type WindowSummary } from "../../core/stats/sample-window.js";
import type { Evidence, Limit } from "./limit.js";

export interface Gradient2Options {
  /** The limit at the start, a whole number from `min` to `max`. @defaultValue `max` */
  readonly initial?: number;
  /** The lowest limit, a whole number from 1 to `max`. @defaultValue 8, or `max` when that is lower */
  readonly min?: number;
  /** The highest limit, a whole number from 1 to 1,000,000. @defaultValue 1_000 */
  readonly max?: number;
  /** How often the limit may change, in milliseconds from 10 to 24 days. @defaultValue 500 */
  readonly windowMs?: number;
}

/** Calls that take this many times their usual time, or less, do not count as waiting. */
const tolerance = 1.5;
/** How many windows the usual time averages. */
const memory = 600;
/** In the first windows the usual time is their plain mean. */
const warmUp = 10;

/**
 * One step of Gradient2: the limit is multiplied by the ratio of the usual time of calls to their present time, 1 at most,
 * and grows by its square root (Gradient2Limit of Netflix concurrency-limits).
 */
export class Gradient {
  #usualMs = 0;
  #windows = 0;

  /** The limit after a window. */
  next(limit: number, { meanMs, maxInFlight }: WindowSummary): number {
    this.learn(meanMs);
    // Few calls run, so their times say nothing about the limit.
    if (maxInFlight < limit / 2) return limit;
    // Calls that take no measurable time do not wait.
    const ratio = meanMs > 0 ? Math.min(1, Math.max(0.5, (tolerance * this.#usualMs) / meanMs)) : 1;
    return 0.8 * limit + 0.2 * (ratio * limit + Math.sqrt(limit));
  }

  /** Learns the usual time from a window, without a step. */
  learn(meanMs: number): void {
    this.#windows += 1;
    const span = Math.min(this.#windows, memory);
    const weight = this.#windows <= warmUp ? 1 / span : 2 / (span + 1);
    this.#usualMs += weight * (meanMs - this.#usualMs);
    // After a load is over, its times must not count as usual for minutes.
    if (this.#usualMs > 2 * meanMs) this.#usualMs *= 0.9;
  }
}

/**
 * Gradient2, which lowers the limit only while this process is saturated: otherwise it would take a slow dependency for
 * overload. While the process is not saturated, the limit allows at least a quarter more calls than are running.
 */
export class Gradient2Limit implements Limit {
  readonly #options: Required<Gradient2Options>;
  readonly #saturated: () => boolean;
  readonly #window: SampleWindow;
  readonly #gradient = new Gradient();
  #limit: number;
  #gated = true;

  /** @param saturated Whether this process is out of CPU, event loop or memory. Called once in each window. */
  constructor(options: Required<Gradient2Options>, saturated: () => boolean) {
    this.#options = options;
    this.#saturated = saturated;
    this.#limit = options.initial;
    this.#window = new SampleWindow(options.windowMs, 20);
  }

  get current(): number {
    return Math.floor(this.#limit);
  }

  record(nowMs: number, tookMs: number, inFlight: number, outcome: Evidence): void {
    const seen = this.#window.record(nowMs, tookMs, inFlight, outcome === "success");
    if (seen === undefined) return;
    const { min, max } = this.#options;
    const roomy = 1.25 * seen.maxInFlight;
    let next: number;
    if (!this.#saturated()) {
      this.#gated = true;
      this.#gradient.learn(seen.meanMs);
      next = Math.max(this.#limit, roomy);
    } else {
      // The limit may be far above the calls that run, where no step would have an effect. So it starts from those.
      const from = this.#gated ? Math.min(this.#limit, Math.max(min, roomy)) : this.#limit;
      this.#gated = false;
      next = this.#gradient.next(from, seen);
    }
    this.#limit = Math.min(max, Math.max(min, next));
  }
}
