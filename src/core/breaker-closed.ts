import { InFlight, type UnderWay } from "./breaker-in-flight.js";
import type { ResolvedBreakerOptions } from "./breaker-options.js";
import { Ramp } from "./breaker-ramp.js";
import { brokenRule, type Trip } from "./breaker-trip.js";
import type { Ending, Outcome } from "./permit.js";
import { countWindow, type OutcomeWindow, timeWindow } from "./window.js";

/** What a closed breaker counts. */
export interface BreakerCounts {
  /** Within the window. */
  readonly calls: number;
  /** Within the window. */
  readonly failures: number;
  /** Within the window; 0 without `slowMs`. */
  readonly slow: number;
  readonly consecutiveFailures: number;
}

/** A rate forgets a tenth of its window at a time (Hystrix, Linkerd). */
const windowBuckets = 10;

/** Calls pass and are counted. `forced-closed`: whatever the counts say. */
export class Closed {
  readonly kind: "closed" | "forced-closed";
  /** Set while it has just closed and lets not all through. */
  ramp: Ramp | undefined;
  readonly #options: ResolvedBreakerOptions;
  readonly #window: OutcomeWindow;
  readonly #inFlight: InFlight | undefined;
  #consecutiveFailures = 0;
  #notBeforeMs = Number.NEGATIVE_INFINITY;

  constructor(options: ResolvedBreakerOptions, kind: Closed["kind"] = "closed") {
    const { windowMs, windowCalls, inFlightMs } = options;
    this.kind = kind;
    this.#options = options;
    this.#window =
      windowCalls === false
        ? timeWindow({ spanMs: windowMs, buckets: windowBuckets })
        : countWindow({ size: windowCalls });
    this.#inFlight = inFlightMs === false ? undefined : new InFlight(inFlightMs);
  }

  /** Closed, after probes: with a ramp, unless there is none. */
  static again(
    options: ResolvedBreakerOptions,
    nowMs: number,
    leftMs = Number.POSITIVE_INFINITY,
  ): Closed {
    const state = new Closed(options);
    const { rampMs } = options;
    if (rampMs !== false && leftMs > 0) state.ramp = new Ramp(nowMs, rampMs, leftMs);
    return state;
  }

  admit(call: UnderWay): void {
    if (call.timed) this.#inFlight?.enter(call);
    if (this.ramp !== undefined) this.ramp.running += 1;
  }

  /** What time has done: the ramp ends, and calls that take too long count as failed. */
  look(nowMs: number): Trip | undefined {
    if (this.ramp !== undefined && nowMs >= this.ramp.untilMs) this.ramp = undefined;
    let overdue = this.#inFlight?.takeOverdue(nowMs);
    while (overdue !== undefined) {
      const trip = this.#count(true, this.#isSlow(overdue, nowMs), undefined, nowMs);
      if (trip !== undefined) return trip;
      overdue = this.#inFlight?.takeOverdue(nowMs);
    }
    return undefined;
  }

  /** The rule that the end of a call has broken, if any. */
  settle(
    call: UnderWay,
    outcome: Outcome,
    ending: Ending | undefined,
    nowMs: number,
  ): Trip | undefined {
    if (this.ramp !== undefined) this.ramp.running -= 1;
    const counted = call.timed && this.#inFlight?.leave(call) === false;
    if (counted || outcome === "ignored") return undefined;
    return this.#count(outcome === "failure", this.#isSlow(call, nowMs), ending, nowMs);
  }

  counts(nowMs: number): BreakerCounts {
    return { ...this.#window.totals(nowMs), consecutiveFailures: this.#consecutiveFailures };
  }

  restore(counts: BreakerCounts, nowMs: number): void {
    this.#window.refill(nowMs, counts);
    this.#consecutiveFailures = counts.consecutiveFailures;
  }

  #count(
    failed: boolean,
    slow: boolean,
    ending: Ending | undefined,
    nowMs: number,
  ): Trip | undefined {
    this.#window.record(nowMs, failed, slow);
    if (!failed) this.#consecutiveFailures = 0;
    // To have too much to do is not to be ill: that counts to the rate alone (Linkerd).
    else if (ending?.unserved !== "shed") this.#consecutiveFailures += 1;
    if (!failed && !slow) return undefined;
    if (failed)
      this.#notBeforeMs = Math.max(this.#notBeforeMs, askedFor(ending, this.#options, nowMs));
    if (this.kind === "forced-closed") return undefined;
    const totals = this.#window.totals(nowMs);
    const consecutiveFailures = this.#consecutiveFailures;
    const rule = brokenRule(this.#options, { failed, slow, consecutiveFailures, totals });
    return rule && { ...rule, notBeforeMs: this.#notBeforeMs };
  }

  #isSlow({ timed, sinceMs }: UnderWay, nowMs: number): boolean {
    const { slowMs } = this.#options;
    return slowMs !== false && timed && nowMs - sinceMs > slowMs;
  }
}

/** The time before which the other side does not want to be asked again, as far as it may say so. */
export function askedFor(
  ending: Ending | undefined,
  { maxOpenMs }: ResolvedBreakerOptions,
  nowMs: number,
): number {
  const askedMs = ending?.retryAfterMs;
  return askedMs === undefined ? Number.NEGATIVE_INFINITY : nowMs + Math.min(askedMs, maxOpenMs);
}
