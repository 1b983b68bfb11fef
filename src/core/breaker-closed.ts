import type { Probe } from "./breaker-half-open.js";
import { InFlight, type UnderWay } from "./breaker-in-flight.js";
import type { ResolvedBreakerOptions } from "./breaker-options.js";
import type { Peers } from "./breaker-peers.js";
import { Ramp } from "./breaker-ramp.js";
import { brokenRule, enoughEvents, type Trip } from "./breaker-trip.js";
import type { HeardEvents } from "./heard-events.js";
import type { Ending, Outcome } from "./permit.js";
import { countWindow, type OutcomeWindow, timeWindow } from "./window.js";

/** What a closed breaker counts. A failure that is no evidence of its own is not among these. */
export interface BreakerCounts {
  /** Within the window. */
  readonly calls: number;
  /** Within the window. */
  readonly failures: number;
  /** Within the window; 0 without `slowMs`. */
  readonly slow: number;
  /** Each began after the one before it was known. */
  readonly consecutiveFailures: number;
}

/** What a breaker goes by in all its states. */
export interface BreakerKnowledge {
  readonly options: ResolvedBreakerOptions;
  readonly peers: Peers;
  readonly heard: HeardEvents;
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
  readonly #peers: Peers;
  readonly #heard: HeardEvents;
  #consecutiveFailures = 0;
  /** Failed or slow calls that began when all those before them were known. */
  #events = 0;
  /** Calls that have counted. */
  #counted = 0;
  /** When the last events were: by the clock, or by the number of the call, as the window goes. */
  readonly #eventsAt: number[] = [];
  #notBeforeMs = Number.NEGATIVE_INFINITY;

  constructor(known: BreakerKnowledge, kind: Closed["kind"] = "closed") {
    const { options, peers, heard } = known;
    const { windowMs, windowCalls, inFlightMs } = options;
    this.kind = kind;
    this.#options = options;
    this.#peers = peers;
    this.#heard = heard;
    this.#window =
      windowCalls === false
        ? timeWindow({ spanMs: windowMs, buckets: windowBuckets })
        : countWindow({ size: windowCalls });
    this.#inFlight = inFlightMs === false ? undefined : new InFlight(inFlightMs);
  }

  /** Closed, after probes: with a ramp, unless there is none. */
  static again(known: BreakerKnowledge, nowMs: number, leftMs = Number.POSITIVE_INFINITY): Closed {
    const state = new Closed(known);
    const { rampMs } = known.options;
    if (rampMs !== false && leftMs > 0) state.ramp = new Ramp(nowMs, rampMs, leftMs);
    return state;
  }

  /** For the calls that begin now: what went wrong before it was known is no news when they end. */
  get events(): number {
    return this.#events;
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
      const trip = this.#count(overdue, true, undefined, nowMs);
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
    return this.#count(call, outcome === "failure", ending, nowMs);
  }

  counts(nowMs: number): BreakerCounts {
    return { ...this.#window.totals(nowMs), consecutiveFailures: this.#consecutiveFailures };
  }

  restore(counts: BreakerCounts, nowMs: number): void {
    this.#window.refill(nowMs, counts);
    this.#consecutiveFailures = counts.consecutiveFailures;
    this.#counted = counts.calls;
    // How they were spread is not known any more.
    const events = Math.min(enoughEvents, Math.max(counts.failures, counts.slow));
    for (let event = 0; event < events; event += 1) this.#noteEvent(nowMs);
  }

  #count(
    call: UnderWay,
    failed: boolean,
    ending: Ending | undefined,
    nowMs: number,
  ): Trip | undefined {
    const slow = isSlow(call, this.#options, nowMs);
    const isNews = call.knownEvents === this.#events;
    // The event that ended it has counted already, with the first call that it ended.
    if (
      failed &&
      (this.#heard.isKnown(ending, nowMs) || (ending?.connectionLost === true && !isNews))
    ) {
      return undefined;
    }
    this.#window.record(nowMs, failed, slow);
    this.#counted += 1;
    if (!failed) {
      this.#consecutiveFailures = 0;
      this.#heard.forget();
    }
    // A server that sheds is not ill: that counts to the rate alone (Linkerd).
    else if (isNews && ending?.unserved !== "shed") this.#consecutiveFailures += 1;
    if (!failed && !slow) return undefined;
    if (isNews) {
      this.#events += 1;
      this.#noteEvent(nowMs);
    }
    if (failed)
      this.#notBeforeMs = Math.max(this.#notBeforeMs, askedFor(ending, this.#options, nowMs));
    if (this.kind === "forced-closed") return undefined;
    const totals = this.#window.totals(nowMs);
    const rule = brokenRule(this.#options, {
      failed,
      slow,
      consecutiveFailures: this.#consecutiveFailures,
      totals,
      events: this.#eventsInWindow(nowMs),
    });
    if (rule === undefined || this.#someServe(rule.cause, nowMs)) return undefined;
    return { ...rule, notBeforeMs: this.#notBeforeMs, unconnected: isUnconnected(ending) };
  }

  #noteEvent(nowMs: number): void {
    this.#eventsAt.push(this.#options.windowCalls === false ? nowMs : this.#counted);
    if (this.#eventsAt.length > enoughEvents) this.#eventsAt.shift();
  }

  /** No more than are enough. */
  #eventsInWindow(nowMs: number): number {
    const { windowCalls, windowMs } = this.#options;
    const [now, reach] = windowCalls === false ? [nowMs, windowMs] : [this.#counted, windowCalls];
    return this.#eventsAt.filter((at) => now - at < reach).length;
  }

  /** Some server behind the target does not break the rule, and the balancer may choose it. */
  #someServe(cause: Trip["cause"], nowMs: number): boolean {
    if (!this.#peers.several) return false;
    const { failureRate, slowRate } = this.#options;
    if (cause === "failure-rate" && failureRate !== false) {
      return this.#peers.someBelow(failureRate, nowMs);
    }
    if (cause === "slow-rate") return this.#peers.someBelow(slowRate, nowMs);
    return this.#peers.someServed(nowMs);
  }
}

/** It took longer than a call should. */
export function isSlow(
  { timed, sinceMs }: Probe,
  { slowMs }: ResolvedBreakerOptions,
  nowMs: number,
): boolean {
  return slowMs !== false && timed && nowMs - sinceMs > slowMs;
}

/** It says that there was no connection, or is none any more. */
export function isUnconnected(ending: Ending | undefined): boolean {
  return ending?.event !== undefined || ending?.connectionLost === true;
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
