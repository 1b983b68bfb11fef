import type { Clock, Random } from "../../core/clock.js";
import { Keyed } from "../../core/keyed.js";
import { durationMs, finiteNumber, readOptions, wholeNumber } from "../../core/options.js";
import { renamedOptions } from "../../core/renamed-options.js";
import { LatencyQuantile } from "../../core/stats/latency-quantile.js";

/**
 * How much time a call must have left, by how long the handlers of its method ran of late: `share` times the `quantile` of
 * their times.
 */
export interface FeasibilityOptions {
  /** Quantile of the times of a method, from 0 to 1. @defaultValue 0.5, the median */
  readonly quantile?: number;
  /** Share of that time that a call must have left, from 0.01 to 10. @defaultValue 0.5 */
  readonly share?: number;
  /** How far back times count, in milliseconds. 1 s to 24 days. @defaultValue 60_000 */
  readonly windowMs?: number;
  /** Times that are needed of a method before any of its calls is refused, a whole number of at least 1. @defaultValue 100 */
  readonly minCalls?: number;
  /**
   * Share of the infeasible calls that is let through all the same, from 0 to 1. Without them the policy could never learn
   * that its times are wrong. @defaultValue 0.01
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
  const known = ["quantile", "share", "windowMs", "minCalls", "passShare"];
  const options = readOptions(
    prefix,
    given,
    [...known, ...also],
    [],
    renamedOptions("Feasibility"),
  );
  const { quantile = 0.5, share = 0.5, windowMs = 60_000, minCalls = 100 } = options;
  const { passShare = 0.01 } = options;
  return Object.freeze({
    quantile: finiteNumber(`${prefix}.quantile`, quantile, 0, 1),
    share: finiteNumber(`${prefix}.share`, share, 0.01, 10),
    windowMs: durationMs(`${prefix}.windowMs`, windowMs, 1_000),
    minCalls: wholeNumber(`${prefix}.minCalls`, minCalls, 1),
    passShare: finiteNumber(`${prefix}.passShare`, passShare, 0, 1),
  });
}

/**
 * Learns how long the handlers of each method run, without any wait before them, and tells how much time a call must have
 * left to be worth starting.
 *
 * Record nothing while the server sheds load. It would learn how slow an overloaded server is, and go on refusing when the
 * load is gone.
 */
export class Feasibility {
  #options: ResolvedFeasibilityOptions;
  readonly #random: Random;
  #times: Keyed<LatencyQuantile>;

  constructor(options: ResolvedFeasibilityOptions, clock: Pick<Clock, "now">, random: Random) {
    this.#options = options;
    this.#random = random;
    const { windowMs, minCalls: minSamples } = options;
    this.#times = new Keyed(() => new LatencyQuantile({ windowMs, minSamples }, clock));
  }

  /** Times that were learnt stay, unless the window or the number of calls is another one: then they are learnt anew. */
  reconfigure(fresh: Feasibility): void {
    const { windowMs, minCalls } = this.#options;
    this.#options = fresh.#options;
    const same = windowMs === fresh.#options.windowMs && minCalls === fresh.#options.minCalls;
    if (!same) this.#times = fresh.#times;
  }

  /** The time that a call of the method must have left, in milliseconds; 0 while too few times are known. */
  neededMs(method: string, nowMs?: number): number {
    return this.#neededMs(this.#times.get(method), nowMs);
  }

  /** Whether an infeasible call is let through all the same, by chance. */
  passes(): boolean {
    return this.#random() < this.#options.passShare;
  }

  record(method: string, tookMs: number, nowMs?: number): void {
    this.#times.get(method).record(tookMs, nowMs);
  }

  /** The time that calls must have left, in milliseconds, by method. */
  snapshot(): Readonly<Record<string, number>> {
    const needs: Record<string, number> = {};
    for (const [method, times] of this.#times.entries()) {
      const neededMs = this.#neededMs(times);
      if (neededMs > 0) needs[method] = Math.round(neededMs * 100) / 100;
    }
    return needs;
  }

  #neededMs(times: LatencyQuantile, nowMs?: number): number {
    const { quantile, share } = this.#options;
    return share * (times.quantile(quantile, nowMs) ?? 0);
  }
}
