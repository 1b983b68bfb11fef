import type { HeardEvents } from "../../core/heard-events.js";
import type { Ending, Outcome } from "../../core/permit.js";
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
  /** Written once at the opening, for the many refusals that follow. */
  readonly detail: string;
  /** The channel has had no connection at some time since: the next one is news. */
  unconnected: boolean;
}

/** No call passes until somebody says so. */
export interface ForcedOpen {
  readonly kind: "forced-open";
}

/** Each state that is entered is an object of its own, by which a permit knows the one that gave it. */
export type BreakerState = Closed | Open | HalfOpen | ForcedOpen;

/**
 * `closed`: calls pass and are counted. `open`: none passes. `half-open`: a few probes pass. Those that are
 * forced stay so until they are released.
 */
export type BreakerStateName = BreakerState["kind"];

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
function isUnconnected(ending: Ending | undefined): boolean {
  return ending?.event !== undefined || ending?.connectionLost === true;
}

/** The time before which the other side does not want to be asked again, as far as it may say so. */
function askedFor(
  ending: Ending | undefined,
  { maxOpenMs }: ResolvedBreakerOptions,
  nowMs: number,
): number {
  const askedMs = ending?.retryAfterMs;
  return askedMs === undefined ? Number.NEGATIVE_INFINITY : nowMs + Math.min(askedMs, maxOpenMs);
}

/** The place of one probe. An object of its own, so that no two places are the same. */
export interface Probe {
  readonly sinceMs: number;
  /** How long it takes says something. */
  readonly timed: boolean;
}

/**
 * A few probes pass. A probe is a lease: one that never ends, or ends in `ignored`, gives its place back, so
 * that a breaker never waits for a call that does not come back.
 */
export class HalfOpen {
  readonly kind = "half-open";
  readonly #known: BreakerKnowledge;
  /** Those that are out, in the order in which they expire. */
  readonly #probes: Probe[] = [];
  /** Where there are several servers, the failure of one probe waits for what the others that are out have to say. */
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

  /** The probe that gives its place back next, if all places are taken. */
  get inTheWay(): Probe | undefined {
    const taken = this.#probes.length + this.#failedCount;
    return taken < this.#known.options.probes ? undefined : this.#probes[0];
  }

  /** Enough of them have succeeded. */
  get convinced(): boolean {
    return this.succeeded >= this.#known.options.successesToClose;
  }

  admit(probe: Probe): void {
    this.#probes.push(probe);
  }

  /** What time has done: leases have lapsed, and a probe that takes too long has failed. */
  look(nowMs: number): Trip | undefined {
    const { inFlightMs, probeLeaseMs } = this.#known.options;
    if (inFlightMs !== false && inFlightMs < probeLeaseMs) {
      for (const { timed, sinceMs } of this.#probes) {
        if (timed && nowMs - sinceMs >= inFlightMs) {
          return probeFailed(`a probe did not end within ${inFlightMs} ms`);
        }
      }
    }
    let lapsed = 0;
    for (const { sinceMs } of this.#probes) {
      if (nowMs - sinceMs < probeLeaseMs) break;
      lapsed += 1;
    }
    // The first to lapse stand in front.
    if (lapsed > 0) this.#probes.splice(0, lapsed);
    return this.#verdict(nowMs);
  }

  /** Notes how a probe ended. One that has lost its place says nothing: another may stand there already. */
  settle(
    probe: Probe,
    outcome: Outcome,
    ending: Ending | undefined,
    nowMs: number,
  ): Trip | undefined {
    const place = this.#probes.indexOf(probe);
    if (place === -1) return undefined;
    this.#probes.splice(place, 1);
    const { heard, options, peers } = this.#known;
    const failed = outcome === "failure";
    // What is told from memory says nothing of now.
    if (outcome === "ignored" || (failed && heard.isKnown(ending, nowMs)))
      return this.#verdict(nowMs);
    const slow = isSlow(probe, options, nowMs);
    if (!failed && !slow) {
      heard.forget();
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

  /** When no probe is out any more. A server that served its last call may be chosen by the balancer again. */
  #verdict(nowMs: number): Trip | undefined {
    if (this.#failed === undefined || this.#probes.length > 0) return undefined;
    const failed = this.#failed;
    this.#failed = undefined;
    this.#failedCount = 0;
    return this.#known.peers.someServed(nowMs) ? undefined : failed;
  }
}

/** Of two failures, whatever keeps the breaker from asking for longer. */
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
  /** So many failures came in a row. */
  | "consecutive-failures"
  /** Too large a share of the calls in the window failed. */
  | "failure-rate"
  /** Too large a share of the calls in the window was slow. */
  | "slow-rate"
  /** The rest of an open breaker is over. */
  | "rest-over"
  /** There was no connection, and now there is one. */
  | "connected"
  /** A probe failed. */
  | "probe-failed"
  /** Enough probes succeeded. */
  | "probes-succeeded"
  /** It was opened or closed by hand. */
  | "forced"
  /** It was left to itself again. */
  | "released"
  /** It took over what another breaker knew. */
  | "restored";

/** What opens a breaker. */
export interface Trip {
  readonly cause: Extract<
    BreakerCause,
    "consecutive-failures" | "failure-rate" | "slow-rate" | "probe-failed"
  >;
  /** The numbers behind it. */
  readonly detail: string;
  /** Before this time, on the monotonic clock, the other side does not want to be asked again. */
  readonly notBeforeMs: number;
  /** There is no connection. */
  readonly unconnected: boolean;
}

/**
 * A rate needs bad calls of so many events, or all of its bad calls apart: calls that were under way together may have
 * failed of one thing, and their share says nothing of the next.
 */
const enoughEvents = 3;

/** What a closed breaker knows when a call has just failed or was slow. */
export interface Evidence {
  readonly failed: boolean;
  readonly slow: boolean;
  readonly consecutiveFailures: number;
  readonly totals: WindowTotals;
  /** How many events in the window ended calls badly, counted up to `enoughEvents`. */
  readonly events: number;
}

/**
 * The rule that a call has just broken, if any. A rate is looked at only when a call made it worse: a
 * success may complete `minCalls`, but it is no moment to open.
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
  if (
    slow &&
    slowMs !== false &&
    totals.slow / calls >= slowRate &&
    events >= Math.min(enoughEvents, totals.slow)
  ) {
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

/** The share of calls that a breaker lets through when it has just closed. */
const firstShare = 0.25;

/**
 * The way from a few probes back to all calls: a share that grows evenly from a quarter to all. A target
 * that has just recovered often has cold caches and no connections, and a flood would close it again.
 */
export class Ramp {
  /** When all calls pass again, on the monotonic clock. */
  readonly untilMs: number;
  readonly #spanMs: number;
  /** Calls that it has let through and that have not ended. */
  running = 0;

  /** @param leftMs How much of `spanMs` is still to come; all of it when it is more. */
  constructor(nowMs: number, spanMs: number, leftMs: number) {
    this.#spanMs = spanMs;
    this.untilMs = nowMs + Math.min(leftMs, spanMs);
  }

  /** From 0.25 to 1. */
  shareAt(nowMs: number): number {
    const toCome = (this.untilMs - nowMs) / this.#spanMs;
    return 1 - (1 - firstShare) * toCome;
  }
}

/** A call that may be looked at before it ends. It is itself its place in the row. */
export interface UnderWay {
  readonly sinceMs: number;
  /** How long it takes says something. */
  readonly timed: boolean;
  /** How many events the breaker knew of when the call began. */
  readonly knownEvents: number;
  /** The row it stands in, and its neighbours there. */
  row: InFlight | undefined;
  older: UnderWay | undefined;
  newer: UnderWay | undefined;
}

/**
 * The calls under way, in the order in which they began, to find those that take too long without
 * looking at the others. Each operation takes constant time.
 */
export class InFlight {
  readonly #limitMs: number;
  #oldest: UnderWay | undefined;
  #newest: UnderWay | undefined;

  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  enter(call: UnderWay): void {
    call.row = this;
    call.older = this.#newest;
    if (this.#newest === undefined) this.#oldest = call;
    else this.#newest.newer = call;
    this.#newest = call;
  }

  /** False when it does not stand here: `takeOverdue` had it. */
  leave(call: UnderWay): boolean {
    if (call.row !== this) return false;
    const { older, newer } = call;
    if (older === undefined) this.#oldest = newer;
    else older.newer = newer;
    if (newer === undefined) this.#newest = older;
    else newer.older = older;
    call.row = undefined;
    call.older = undefined;
    call.newer = undefined;
    return true;
  }

  /** Takes out the oldest call, if it is under way for the limit or longer. */
  takeOverdue(nowMs: number): UnderWay | undefined {
    const oldest = this.#oldest;
    if (oldest === undefined || nowMs - oldest.sinceMs < this.#limitMs) return undefined;
    this.leave(oldest);
    return oldest;
  }
}
