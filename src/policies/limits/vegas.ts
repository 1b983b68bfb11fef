import type { Random } from "../../core/clock.js";
import { SampleWindow } from "../../core/stats/sample-window.js";
import type { Evidence, Limit } from "./limit.js";

export interface VegasOptions {
  /** The limit at the start, a whole number from `min` to `max`. @defaultValue `max` */
  readonly initial?: number;
  /** The lowest limit, a whole number from 1 to `max`. @defaultValue 8, or `max` when that is lower */
  readonly min?: number;
  /** The highest limit, a whole number from 1 to 1,000,000. @defaultValue 1_000 */
  readonly max?: number;
  /** How often the limit may change, in milliseconds from 10 to 24 days. @defaultValue 500 */
  readonly windowMs?: number;
}

/** After at most this many times the limit of calls, the shortest time is measured again. */
const probeMultiplier = 30;

/**
 * Estimates how many of the running calls are waiting, `limit * (1 - shortest / mean)`, and keeps that number between two
 * bounds (TCP Vegas; VegasLimit of Netflix concurrency-limits). It cannot tell a slow dependency from overload.
 */
export class VegasLimit implements Limit {
  readonly #options: Required<VegasOptions>;
  readonly #random: Random;
  readonly #window: SampleWindow;
  #limit: number;
  #shortestMs = Number.POSITIVE_INFINITY;
  #failed = false;
  #calls = 0;
  #probeAt: number;

  constructor(options: Required<VegasOptions>, random: Random) {
    this.#options = options;
    this.#random = random;
    this.#limit = options.initial;
    this.#window = new SampleWindow(options.windowMs, 10);
    this.#probeAt = this.#nextProbe();
  }

  get current(): number {
    return Math.floor(this.#limit);
  }

  record(nowMs: number, tookMs: number, inFlight: number, outcome: Evidence): void {
    if (outcome === "failure") this.#failed = true;
    this.#calls += 1;
    const seen = this.#window.record(nowMs, tookMs, inFlight, outcome === "success");
    if (seen === undefined) return;
    const { meanMs, maxInFlight } = seen;
    const failed = this.#failed;
    this.#failed = false;
    if (this.#calls >= this.#probeAt) {
      this.#calls = 0;
      this.#probeAt = this.#nextProbe();
      this.#shortestMs = meanMs;
      return;
    }
    if (meanMs < this.#shortestMs) {
      this.#shortestMs = meanMs;
      return;
    }
    const { min, max } = this.#options;
    const limit = this.#limit;
    const step = Math.max(1, Math.log10(limit));
    const waiting = Math.ceil(limit * (1 - this.#shortestMs / meanMs));
    let next = limit;
    if (failed) next = limit - step;
    else if (maxInFlight * 2 < limit) return;
    else if (waiting <= step) next = limit + 6 * step;
    else if (waiting < 3 * step) next = limit + step;
    else if (waiting > 6 * step) next = limit - step;
    this.#limit = Math.min(max, Math.max(min, next));
  }

  #nextProbe(): number {
    return probeMultiplier * this.#limit * (0.5 + this.#random() / 2);
  }
}
