import { SampleWindow, type WindowSummary } from "../../core/stats/sample-window.js";
import type { Evidence, Limit } from "./limit.js";

export interface Gradient2Options {
  /** Where it starts. @defaultValue `max` */
  readonly initial?: number;
  /** @defaultValue 8 */
  readonly min?: number;
  /** @defaultValue 1_000 */
  readonly max?: number;
  /** How often it may change. 10 ms to 24 days. @defaultValue 500 */
  readonly windowMs?: number;
}

/** How much longer than usual calls may take before that counts as waiting. */
const tolerance = 1.5;
/** Windows that the usual time remembers. */
const memory = 600;
/** The usual time is learnt fast at first. */
const warmUp = 10;

/**
 * The step of Gradient2: the limit follows the ratio of the usual time of calls to their present one, and grows by its
 * root as long as that is 1 (Netflix concurrency-limits, Gradient2Limit).
 */
export class Gradient {
  #usualMs = 0;
  #windows = 0;

  /** What the limit should be after a window. */
  next(limit: number, { meanMs, maxInFlight }: WindowSummary): number {
    this.learn(meanMs);
    // Little runs, so the times say nothing about a limit that nobody meets.
    if (maxInFlight < limit / 2) return limit;
    // Calls that take no time that a clock can tell wait for nothing.
    const ratio = meanMs > 0 ? Math.min(1, Math.max(0.5, (tolerance * this.#usualMs) / meanMs)) : 1;
    return 0.8 * limit + 0.2 * (ratio * limit + Math.sqrt(limit));
  }

  /** Takes the time of a window in, without a step. */
  learn(meanMs: number): void {
    this.#windows += 1;
    const span = Math.min(this.#windows, memory);
    const weight = this.#windows <= warmUp ? 1 / span : 2 / (span + 1);
    this.#usualMs += weight * (meanMs - this.#usualMs);
    // A load that has gone must not be remembered as usual for minutes.
    if (this.#usualMs > 2 * meanMs) this.#usualMs *= 0.9;
  }
}

/**
 * Gradient2 that steps down only while this process is saturated. Without the gate it takes a slow dependency for
 * overload. While it is not saturated the limit makes room for a quarter more than what runs.
 */
export class Gradient2Limit implements Limit {
  readonly #options: Required<Gradient2Options>;
  readonly #saturated: () => boolean;
  readonly #window: SampleWindow;
  readonly #gradient = new Gradient();
  #limit: number;
  #gated = true;

  /** `saturated` is asked once a window: this process has no more to give. */
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
      // The limit may stand far above what runs, where no step would be felt. It starts from there.
      const from = this.#gated ? Math.min(this.#limit, Math.max(min, roomy)) : this.#limit;
      this.#gated = false;
      next = this.#gradient.next(from, seen);
    }
    this.#limit = Math.min(max, Math.max(min, next));
  }
}
