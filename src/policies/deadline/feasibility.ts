import type { Clock, Random } from "../../core/clock.js";
import { Keyed } from "../../core/keyed.js";
import { durationMs, finiteNumber, readOptions, wholeNumber } from "../../core/options.js";
import { LatencyQuantile } from "../../core/stats/latency-quantile.js";

/** What is learnt of how long handlers take, and what follows for calls with little time left. */
export interface FeasibilityOptions {
  /** The quantile of a method's times that a call is measured by, from 0 to 1. @defaultValue 0.5 */
  readonly quantile?: number;
  /** The share of that time which must be left, above 0 and up to 10. @defaultValue 0.5 */
  readonly share?: number;
  /** How far back times count. 1 s to 24 days. @defaultValue 60_000 */
  readonly windowMs?: number;
  /** With fewer times of a method than this, nothing is known of it. At least 1. @defaultValue 100 */
  readonly minSamples?: number;
  /**
   * The share of the hopeless calls that passes all the same, from 0 to 1: what is learnt only from those who pass
   * could never find out that it is wrong. @defaultValue 0.01
   */
  readonly passShare?: number;
}

export type ResolvedFeasibilityOptions = Readonly<Required<FeasibilityOptions>>;

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveFeasibilityOptions(
  given: FeasibilityOptions = {},
  prefix = "learned",
  also: readonly string[] = [],
): ResolvedFeasibilityOptions {
  const known = ["quantile", "share", "windowMs", "minSamples", "passShare"];
  const options = readOptions(prefix, given, [...known, ...also]);
  const { quantile = 0.5, share = 0.5, windowMs = 60_000, minSamples = 100 } = options;
  const { passShare = 0.01 } = options;
  return Object.freeze({
    quantile: finiteNumber(`${prefix}.quantile`, quantile, 0, 1),
    share: finiteNumber(`${prefix}.share`, share, 0.01, 10),
    windowMs: durationMs(`${prefix}.windowMs`, windowMs, 1_000),
    minSamples: wholeNumber(`${prefix}.minSamples`, minSamples, 1),
    passShare: finiteNumber(`${prefix}.passShare`, passShare, 0, 1),
  });
}

/**
 * Knows how long the handlers of each method take as a rule, and so which calls have too little time left to be worth
 * starting. Times are those of handlers, without any wait before them. While the server sheds it learns nothing: what it
 * would learn then is how slow an overloaded server is, and it would go on refusing when the load is gone.
 */
export class Feasibility {
  readonly #options: ResolvedFeasibilityOptions;
  readonly #random: Random;
  readonly #times: Keyed<LatencyQuantile>;

  constructor(options: ResolvedFeasibilityOptions, clock: Pick<Clock, "now">, random: Random) {
    this.#options = options;
    this.#random = random;
    this.#times = new Keyed(() => new LatencyQuantile(options, clock));
  }

  /** The time that a call of this method must have left, in milliseconds; 0 while nothing is known of it. */
  neededMs(method: string): number {
    return this.#neededMs(this.#times.get(method));
  }

  /** A hopeless call passes all the same. */
  passes(): boolean {
    return this.#random() < this.#options.passShare;
  }

  /** Takes in how long a handler took. */
  record(method: string, tookMs: number): void {
    this.#times.get(method).record(tookMs);
  }

  /** What is needed by method, for people and reports. */
  snapshot(): Readonly<Record<string, number>> {
    const needs: Record<string, number> = {};
    for (const [method, times] of this.#times.entries()) {
      const neededMs = this.#neededMs(times);
      if (neededMs > 0) needs[method] = Math.round(neededMs * 100) / 100;
    }
    return needs;
  }

  #neededMs(times: LatencyQuantile): number {
    const { quantile, share } = this.#options;
    return share * (times.quantile(quantile) ?? 0);
  }
}
