import type { Ending, Outcome } from "../../core/permit.js";
import type { SeenEvents } from "../../core/seen-events.js";
import {
  countWindow,
  type OutcomeWindow,
  timeWindow,
  type WindowTotals,
} from "../../core/stats/outcome-window.js";
import type { ResolvedBreakerOptions } from "./options.js";
import type { Peers } from "./peers.js";

/** No call passes before `untilMs`. */
export interface Open {
  readonly kind: "open";
  readonly untilMs: number;
  /** Why it opened. Written once, for the many refusals that follow. */
  readonly detail: string;
  /** The channel was without a connection at some time since: a connection that is seen now is a new one. */
  unconnected: boolean;
}

/** No call passes until the breaker is released by hand. */
interface ForcedOpen {
  readonly kind: "forced-open";
}

/** Each time a state is entered it is a new object. A permit keeps the one that admitted its call. */
export type BreakerState = Closed | Open | HalfOpen | ForcedOpen;

/**
 * `closed`: calls pass and are counted. `open`: no call passes. `half-open`: a few probes pass. The forced states last
 * until they are released.
 */
export type BreakerStateName = BreakerState["kind"];

/** What a closed breaker has counted. Of the failures that one event caused, some are left out. */
export interface BreakerCounts {
  /** In the window. */
  readonly calls: number;
  /** In the window. */
  readonly failures: number;
  /** In the window; 0 without `slowMs`. */
  readonly slow: number;
  /** Failures without a success between them, each of a call that began after the one before was known. */
  readonly consecutiveFailures: number;
}

/** What all states of a breaker share. */
export interface BreakerKnowledge {
  /** They may be replaced while calls run. */
  options: ResolvedBreakerOptions;
  readonly peers: Peers;
  readonly seenEvents: SeenEvents;
}

/** The window slides by a tenth of its length at a time (as in Hystrix and Linkerd). */
const windowBuckets = 10;

/** Calls pass and are counted. `forced-closed`: no count opens it. */
export class Closed {
  readonly kind: "closed" | "forced-closed";
  /** Set after probes, until all calls pass again. */
  ramp: Ramp | undefined;
  readonly #known: BreakerKnowledge;
  #window: OutcomeWindow;
  #inFlight: InFlight | undefined;
  #consecutiveFailures = 0;
  /** Independent events: failed or slow calls that began when all events before were known. */
  #events = 0;
  /** Calls that have counted. */
  #counted = 0;
  /** When the last events were: monotonic milliseconds, or with `windowCalls` the number of the call. */
  #eventsAt: number[] = [];
  /** The latest time that a server asked to wait for, in monotonic milliseconds. */
  #notBeforeMs = Number.NEGATIVE_INFINITY;

  constructor(known: BreakerKnowledge, kind: Closed["kind"] = "closed") {
    const { inFlightMs } = known.options;
    this.kind = kind;
    this.#known = known;
    this.#window = windowOf(known.options);
    this.#inFlight = inFlightMs === false ? undefined : new InFlight(inFlightMs);
  }

  /** The options were others until now. What has been counted stays: a window of another length takes over the counts. */
  reconfigure(before: ResolvedBreakerOptions, nowMs: number): void {
    const { windowMs, windowCalls, inFlightMs } = this.#known.options;
    if (windowMs !== before.windowMs || windowCalls !== before.windowCalls) {
      const totals = this.#window.totals(nowMs);
      this.#window = windowOf(this.#known.options);
      this.#window.refill(nowMs, totals);
      // By time and by number of calls are different scales.
      const events = this.#eventsAt.length;
      this.#eventsAt = [];
      for (let event = 0; event < events; event += 1) this.#noteEvent(nowMs);
    }
    // Calls in flight stay in the list that they are in.
    if (this.#inFlight !== undefined) this.#inFlight.limitMs = inFlightMs || Infinity;
    else if (inFlightMs !== false) this.#inFlight = new InFlight(inFlightMs);
  }

  /** The state after probes have succeeded: it begins with a ramp, unless `rampMs` is false. */
  static afterProbes(
    known: BreakerKnowledge,
    nowMs: number,
    leftMs = Number.POSITIVE_INFINITY,
  ): Closed {
    const state = new Closed(known);
    const { rampMs } = known.options;
    if (rampMs !== false && leftMs > 0) state.ramp = new Ramp(nowMs, rampMs, leftMs);
    return state;
  }

  /** How many events are known. A call that begins now ends by a new event only if this has not changed meanwhile. */
  get events(): number {
    return this.#events;
  }

  admit(call: CallInFlight): void {
    if (call.timed) this.#inFlight?.enter(call);
    if (this.ramp !== undefined) this.ramp.running += 1;
  }

  /** Applies the passing of time: the ramp ends, and calls in flight for `inFlightMs` count as failed. */
  advance(nowMs: number): Trip | undefined {
    if (this.ramp !== undefined && nowMs >= this.ramp.untilMs) this.ramp = undefined;
    let overdue = this.#inFlight?.takeOverdue(nowMs);
    while (overdue !== undefined) {
      const trip = this.#count(overdue, true, undefined, nowMs);
      if (trip !== undefined) return trip;
      overdue = this.#inFlight?.takeOverdue(nowMs);
    }
    return undefined;
  }

  /** Counts the end of a call. Returns the rule that it breaks, if any. */
  settle(
    call: CallInFlight,
    outcome: Outcome,
    ending: Ending | undefined,
    nowMs: number,
  ): Trip | undefined {
    if (this.ramp !== undefined) this.ramp.running -= 1;
    this.#inFlight?.leave(call);
    if (call.overdue || outcome === "ignored") return undefined;
    return this.#count(call, outcome === "failure", ending, nowMs);
  }

  counts(nowMs: number): BreakerCounts {
    return { ...this.#window.totals(nowMs), consecutiveFailures: this.#consecutiveFailures };
  }

  restore(counts: BreakerCounts, nowMs: number): void {
    this.#window.refill(nowMs, counts);
    this.#consecutiveFailures = counts.consecutiveFailures;
    this.#counted = counts.calls;
    // A snapshot does not say which of them were independent: all are taken for that, as far as it matters.
    const events = Math.min(enoughEvents, Math.max(counts.failures, counts.slow));
    for (let event = 0; event < events; event += 1) this.#noteEvent(nowMs);
  }

  #count(
    call: CallInFlight,
    failed: boolean,
    ending: Ending | undefined,
    nowMs: number,
  ): Trip | undefined {
    const slow = isSlow(call, this.#known.options, nowMs);
    const independent = call.knownEvents === this.#events;
    // The event that ended the call has counted already, with the first call that it ended.
    if (
      failed &&
      (this.#known.seenEvents.isKnown(ending, nowMs) ||
        (ending?.connectionLost === true && !independent))
    ) {
      return undefined;
    }
    this.#window.record(nowMs, failed, slow);
    this.#counted += 1;
    if (!failed) {
      this.#consecutiveFailures = 0;
      this.#known.seenEvents.forget();
    }
    // A server that sheds load is not down: that counts for the failure rate alone (as in Linkerd).
    else if (independent && ending?.unserved !== "shed") this.#consecutiveFailures += 1;
    if (!failed && !slow) return undefined;
    if (independent) {
      this.#events += 1;
      this.#noteEvent(nowMs);
    }
    if (failed)
      this.#notBeforeMs = Math.max(this.#notBeforeMs, askedFor(ending, this.#known.options, nowMs));
    if (this.kind === "forced-closed") return undefined;
    const totals = this.#window.totals(nowMs);
    const rule = brokenRule(this.#known.options, {
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
    this.#eventsAt.push(this.#known.options.windowCalls === false ? nowMs : this.#counted);
    if (this.#eventsAt.length > enoughEvents) this.#eventsAt.shift();
  }

  /** Events in the window, counted up to `enoughEvents`. */
  #eventsInWindow(nowMs: number): number {
    const { windowCalls, windowMs } = this.#known.options;
    const [now, reach] = windowCalls === false ? [nowMs, windowMs] : [this.#counted, windowCalls];
    return this.#eventsAt.filter((at) => now - at < reach).length;
  }

  /** A server behind the target does not break the rule: the balancer may choose it. */
  #someServe(cause: Trip["cause"], nowMs: number): boolean {
    const { peers } = this.#known;
    if (!peers.several) return false;
    const { failureRate, slowRate } = this.#known.options;
    if (cause === "failure-rate" && failureRate !== false) {
      return peers.someBelow(failureRate, nowMs);
    }
    if (cause === "slow-rate") return peers.someBelow(slowRate, nowMs);
    return peers.someServed(nowMs);
  }
}

function windowOf({ windowMs, windowCalls }: ResolvedBreakerOptions): OutcomeWindow {
  return windowCalls === false
    ? timeWindow({ spanMs: windowMs, buckets: windowBuckets })
    : countWindow({ size: windowCalls });
}

/** Whether a call has taken longer than `slowMs`. */
export function isSlow(
  { timed, sinceMs }: Probe,
  { slowMs }: ResolvedBreakerOptions,
  nowMs: number,
): boolean {
  return slowMs !== false && timed && nowMs - sinceMs > slowMs;
}

/** Whether the call ended because there was no connection, or because it was lost. */
function isUnconnected(ending: Ending | undefined): boolean {
  return ending?.event !== undefined || ending?.connectionLost === true;
}

/** Until when the server asked to wait, in monotonic milliseconds; at most `maxOpenMs` from now. */
function askedFor(
  ending: Ending | undefined,
  { maxOpenMs }: ResolvedBreakerOptions,
  nowMs: number,
): number {
  const askedMs = ending?.retryAfterMs;
  return askedMs === undefined ? Number.NEGATIVE_INFINITY : nowMs + Math.min(askedMs, maxOpenMs);
}

/** A call that takes a probe slot. */
interface Probe {
  readonly sinceMs: number;
  /** The duration counts. */
  readonly timed: boolean;
}

/**
 * A few probes pass. A probe holds its slot for `probeLeaseMs` at most, and gives it back when it ends in `ignored`: a
 * breaker never waits for a call that does not end.
 */
export class HalfOpen {
  readonly kind = "half-open";
  readonly #known: BreakerKnowledge;
  /** Running probes, in the order in which their slots expire. */
  readonly #probes: Probe[] = [];
  /** The failure of a probe, where there are several servers: it is judged when the other running probes have ended. */
  #failed: Trip | undefined;
  #failedCount = 0;
  succeeded: number;

  constructor(known: BreakerKnowledge, succeeded = 0) {
    this.#known = known;
    this.succeeded = succeeded;
  }

  get probesOut(): number {
    return this.#probes.length;
  }

  /** The probe whose slot expires next, when all slots are taken. */
  get nextToFree(): Probe | undefined {
    const taken = this.#probes.length + this.#failedCount;
    return taken < this.#known.options.probes ? undefined : this.#probes[0];
  }

  /** Enough probes have succeeded to close the breaker. */
  get hasRecovered(): boolean {
    return this.succeeded >= this.#known.options.successesToClose;
  }

  admit(probe: Probe): void {
    this.#probes.push(probe);
  }

  /** Applies the passing of time: slots expire, and a probe in flight for `inFlightMs` has failed. */
  advance(nowMs: number): Trip | undefined {
    const { inFlightMs, probeLeaseMs } = this.#known.options;
    if (inFlightMs !== false && inFlightMs < probeLeaseMs) {
      for (const { timed, sinceMs } of this.#probes) {
        if (timed && nowMs - sinceMs >= inFlightMs) {
          return probeFailed(`a probe did not end within ${inFlightMs} ms`);
        }
      }
    }
    let expired = 0;
    for (const { sinceMs } of this.#probes) {
      if (nowMs - sinceMs < probeLeaseMs) break;
      expired += 1;
    }
    if (expired > 0) this.#probes.splice(0, expired);
    return this.#verdict(nowMs);
  }

  /** Counts the end of a probe. One whose slot has expired does not count: another probe may hold the slot. */
  settle(
    probe: Probe,
    outcome: Outcome,
    ending: Ending | undefined,
    nowMs: number,
  ): Trip | undefined {
    const index = this.#probes.indexOf(probe);
    if (index === -1) return undefined;
    this.#probes.splice(index, 1);
    const { seenEvents, options, peers } = this.#known;
    const failed = outcome === "failure";
    // A failed connect that grpc-js tells from memory says nothing about the present.
    if (outcome === "ignored" || (failed && seenEvents.isKnown(ending, nowMs)))
      return this.#verdict(nowMs);
    const slow = isSlow(probe, options, nowMs);
    if (!failed && !slow) {
      seenEvents.forget();
      this.succeeded += 1;
      return this.#verdict(nowMs);
    }
    const trip = failed
      ? probeFailed("a probe failed", askedFor(ending, options, nowMs), isUnconnected(ending))
      : probeFailed(`a probe took longer than ${options.slowMs} ms`);
    if (!peers.several) return trip;
    this.#failed = later(this.#failed, trip);
    this.#failedCount += 1;
    return this.#verdict(nowMs);
  }

  /** Judges failed probes when none runs any more: the breaker opens unless a server has served its last call. */
  #verdict(nowMs: number): Trip | undefined {
    if (this.#failed === undefined || this.#probes.length > 0) return undefined;
    const failed = this.#failed;
    this.#failed = undefined;
    this.#failedCount = 0;
    return this.#known.peers.someServed(nowMs) ? undefined : failed;
  }
}

/** Of two failures, the one after which the breaker has to wait longer. */
function later(one: Trip | undefined, other: Trip): Trip {
  return one !== undefined && one.notBeforeMs > other.notBeforeMs ? one : other;
}

function probeFailed(
  detail: string,
  notBeforeMs = Number.NEGATIVE_INFINITY,
  unconnected = false,
): Trip {
  return { cause: "probe-failed", detail, notBeforeMs, unconnected };
}

/** Why a breaker changed its state. */
export type BreakerCause =
  /** There were `consecutiveFailures` failures without a success between them. */
  | "consecutive-failures"
  /** The share of failed calls in the window reached `failureRate`. */
  | "failure-rate"
  /** The share of slow calls in the window reached `slowRate`. */
  | "slow-rate"
  /** The open period is over. */
  | "rest-over"
  /** The channel has a connection again. */
  | "connected"
  /** A probe failed. */
  | "probe-failed"
  /** Enough probes succeeded. */
  | "probes-succeeded"
  /** It was opened or closed by hand. */
  | "forced"
  /** It was forced, and was released. */
  | "released"
  /** It took over a snapshot. */
  | "restored";

/** What opens a breaker. */
export interface Trip {
  readonly cause: Extract<
    BreakerCause,
    "consecutive-failures" | "failure-rate" | "slow-rate" | "probe-failed"
  >;
  /** For a person: the numbers behind it. */
  readonly detail: string;
  /** Until when the server asked to wait, in monotonic milliseconds. `-Infinity` if it did not. */
  readonly notBeforeMs: number;
  /** There is no connection. */
  readonly unconnected: boolean;
}

/**
 * A rate opens the breaker only if the bad calls come from this many independent events, or if all of them are
 * independent. Calls that were in flight together may have failed for one reason, which says little about later calls.
 */
const enoughEvents = 3;

/** What a closed breaker knows when a call has failed or was slow. */
interface Evidence {
  readonly failed: boolean;
  readonly slow: boolean;
  readonly consecutiveFailures: number;
  readonly totals: WindowTotals;
  /** Independent events in the window, counted up to `enoughEvents`. */
  readonly events: number;
}

/**
 * The rule that a call has just broken, if any. A rate is checked only when a call has made it worse: a success may
 * complete `minCalls`, but it does not open a breaker.
 */
function brokenRule(
  options: ResolvedBreakerOptions,
  { failed, slow, consecutiveFailures: inARow, totals, events }: Evidence,
): Pick<Trip, "cause" | "detail"> | undefined {
  if (failed && options.consecutiveFailures !== false && inARow >= options.consecutiveFailures) {
    return {
      cause: "consecutive-failures",
      detail: inARow === 1 ? "1 failure" : `${inARow} failures in a row`,
    };
  }
  const { minCalls, failureRate, slowMs, slowRate } = options;
  const { calls, failures } = totals;
  if (calls < minCalls) return undefined;
  // Divided, not multiplied: 7 of 100 is exactly the double 0.07, but 0.07 * 100 is above 7.
  if (
    failed &&
    failureRate !== false &&
    failures / calls >= failureRate &&
    events >= Math.min(enoughEvents, failures)
  ) {
    return { cause: "failure-rate", detail: share(options, failures, calls, "failed") };
  }
  if (slow && totals.slow / calls >= slowRate && events >= Math.min(enoughEvents, totals.slow)) {
    const detail = share(options, totals.slow, calls, `took longer than ${slowMs} ms`);
    return { cause: "slow-rate", detail };
  }
  return undefined;
}

function share(
  { windowCalls, windowMs }: ResolvedBreakerOptions,
  some: number,
  all: number,
  did: string,
): string {
  return windowCalls === false
    ? `${some} of ${all} calls ${did} within ${windowMs} ms`
    : `${some} of the last ${all} calls ${did}`;
}

/** The share of calls that passes at the start of a ramp. */
const firstShare = 0.25;

/**
 * After probes, the share of calls that passes grows linearly from a quarter to all. A target that has just recovered
 * often has cold caches and few connections: the full load at once could bring it down again.
 */
export class Ramp {
  /** When all calls pass again, on the monotonic clock. */
  readonly untilMs: number;
  readonly #spanMs: number;
  /** Calls admitted during the ramp that have not ended. */
  running = 0;

  /** @param leftMs What is left of `spanMs`; at most all of it. */
  constructor(nowMs: number, spanMs: number, leftMs: number) {
    this.#spanMs = spanMs;
    this.untilMs = nowMs + Math.min(leftMs, spanMs);
  }

  /** From 0.25 to 1. */
  shareAt(nowMs: number): number {
    const left = (this.untilMs - nowMs) / this.#spanMs;
    return 1 - (1 - firstShare) * left;
  }
}

/** A call in flight. It is also its own entry in the list of {@link InFlight}. */
export interface CallInFlight {
  readonly sinceMs: number;
  /** The duration counts. */
  readonly timed: boolean;
  /** How many events the breaker knew when the call began. */
  readonly knownEvents: number;
  /** It was in flight for too long, and has counted as failed. */
  overdue: boolean;
  /** The list that it is in, and its neighbours there. */
  list: InFlight | undefined;
  older: CallInFlight | undefined;
  newer: CallInFlight | undefined;
}

/** Calls in flight, oldest first, to find those that take too long. Each operation takes constant time. */
export class InFlight {
  /** How long a call may be in flight, in milliseconds. */
  limitMs: number;
  #oldest: CallInFlight | undefined;
  #newest: CallInFlight | undefined;

  constructor(limitMs: number) {
    this.limitMs = limitMs;
  }

  enter(call: CallInFlight): void {
    call.list = this;
    call.older = this.#newest;
    if (this.#newest === undefined) this.#oldest = call;
    else this.#newest.newer = call;
    this.#newest = call;
  }

  leave(call: CallInFlight): void {
    if (call.list !== this) return;
    const { older, newer } = call;
    if (older === undefined) this.#oldest = newer;
    else older.newer = newer;
    if (newer === undefined) this.#newest = older;
    else newer.older = older;
    call.list = undefined;
    call.older = undefined;
    call.newer = undefined;
  }

  /** Takes out the oldest call, if it has been in flight for the limit or longer. */
  takeOverdue(nowMs: number): CallInFlight | undefined {
    const oldest = this.#oldest;
    if (oldest === undefined || nowMs - oldest.sinceMs < this.limitMs) return undefined;
    this.leave(oldest);
    oldest.overdue = true;
    return oldest;
  }
}
