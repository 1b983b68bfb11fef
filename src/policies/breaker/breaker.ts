import { type Clock, type Random, systemRandom } from "../../core/clock.js";
import type { RefusalReason } from "../../core/decision.js";
import { type Ending, OncePermit, type Outcome, type Refusal } from "../../core/permit.js";
import { SeenEvents } from "../../core/seen-events.js";
import { notify, type Observer, type ReportError, warn } from "../../core/user-code.js";
import type { ResolvedBreakerOptions } from "./options.js";
import { Peers } from "./peers.js";
import { type BreakerSnapshot, stateOf } from "./snapshot.js";
import {
  type BreakerCause,
  type BreakerKnowledge,
  type BreakerState,
  type BreakerStateName,
  type CallInFlight,
  Closed,
  HalfOpen,
  type InFlight,
  isSlow,
  type Open,
  type Ramp,
  type Trip,
} from "./states.js";

/** A change of state. Observers get it after the change. */
export interface BreakerEvent {
  readonly type: "breaker.state";
  readonly from: BreakerStateName;
  readonly to: BreakerStateName;
  /**
   * When the state changed, in monotonic milliseconds. A breaker runs no timer: it notices the end of an open period
   * when it is asked next, and this is the time of that question.
   */
  readonly atMs: number;
  readonly reason: BreakerCause;
  /** For a person: the numbers behind the change, such as `5 failures in a row`. */
  readonly detail: string;
}

/** What a breaker needs to know of a call. */
export interface BreakerCall {
  /** The duration counts. False for a stream: the application decides how long it lasts. */
  readonly timed: boolean;
  /** The ramp never refuses it. */
  readonly critical: boolean;
}

const ordinary: BreakerCall = { timed: true, critical: false };

/**
 * A circuit breaker for one key. It opens after consecutive failures, on a failure rate or on a rate of slow calls
 * (Linkerd combines the first two). After the open period it admits a few probes. When enough of them succeed it
 * closes, and admits a growing share of the calls until the ramp ends.
 *
 * - It runs no timer: each question first brings the state up to date with the clock.
 * - An outcome counts only in the state that admitted the call: a straggler changes no later state.
 * - A probe holds its slot for a limited time. One that never ends, or ends in `ignored`, gives the slot back.
 * - One event counts once, however many calls it ended: a failure adds to the consecutive ones only if its call began
 *   after the previous failure was known.
 * - It stays closed while a server behind the target is known to serve.
 */
export class Breaker {
  #options: ResolvedBreakerOptions;
  readonly #known: BreakerKnowledge;
  readonly #clock: Pick<Clock, "now">;
  readonly #onEvent: Observer<BreakerEvent> | undefined;
  readonly #report: ReportError;
  readonly #random: Random;
  readonly #openPeriods: OpenPeriods;
  /** A rule depends on how long calls take. */
  #timed: boolean;
  /** The passing of time may open it, without a call that ends (`inFlightMs`). */
  #opensByTime: boolean;
  #state: BreakerState;
  #sinceMs: number;

  /**
   * @param options From `resolveBreakerOptions`.
   * @param onEvent Called for each change of state.
   * @param report Is given what `onEvent` throws. @defaultValue a warning of the process
   * @param random Varies the open periods, and draws whom the ramp admits.
   */
  constructor(
    options: ResolvedBreakerOptions,
    clock: Pick<Clock, "now">,
    onEvent?: Observer<BreakerEvent>,
    report: ReportError = warn,
    random: Random = systemRandom,
  ) {
    this.#options = options;
    this.#known = { options, peers: new Peers(options.windowMs), seenEvents: new SeenEvents() };
    this.#clock = clock;
    this.#onEvent = onEvent;
    this.#report = report;
    this.#random = random;
    this.#openPeriods = new OpenPeriods(options, random);
    this.#opensByTime = options.inFlightMs !== false;
    this.#timed = options.slowMs !== false || this.#opensByTime;
    this.#state = new Closed(this.#known);
    this.#sinceMs = clock.now();
  }

  /**
   * Goes on with other options. It stays in its state, with what it has counted; a period that has begun ends when it would
   * have ended.
   */
  reconfigure(options: ResolvedBreakerOptions): void {
    const nowMs = this.#clock.now();
    const state = this.#at(nowMs);
    const before = this.#options;
    this.#options = options;
    this.#known.options = options;
    this.#known.peers.remember(options.windowMs);
    this.#openPeriods.options = options;
    this.#opensByTime = options.inFlightMs !== false;
    this.#timed = options.slowMs !== false || this.#opensByTime;
    if (state instanceof Closed) state.reconfigure(before, nowMs);
  }

  get state(): BreakerStateName {
    return this.#at(this.#clock.now()).kind;
  }

  /**
   * The refusal that a call would get now. It takes no probe slot, and leaves out the ramp, which refuses by chance.
   */
  check(): BreakerRefusal | undefined {
    // The usual case reads no clock.
    if (this.#state.kind === "closed" && !this.#opensByTime) return undefined;
    const nowMs = this.#clock.now();
    const state = this.#at(nowMs);
    switch (state.kind) {
      case "closed":
      case "forced-closed":
        return undefined;
      case "open":
        return whileOpen(state, nowMs);
      case "half-open":
        return whileProbing(state, this.#options, nowMs);
      case "forced-open":
        return forcedOpen;
    }
  }

  /**
   * Admits a call or refuses it. The permit must be settled; that of a probe expires after `probeLeaseMs`.
   *
   * @param givenMs The time now, where it has been read. The usual case reads no clock.
   */
  acquire(call: BreakerCall = ordinary, givenMs?: number): BreakerPermit | BreakerRefusal {
    const usual = this.#state;
    if (!this.#timed && usual.kind === "closed" && usual.ramp === undefined) {
      return new BreakerPermit(this, usual, 0, false, usual.events);
    }
    const nowMs = givenMs ?? this.#clock.now();
    const state = this.#at(nowMs);
    switch (state.kind) {
      case "closed":
      case "forced-closed":
        return this.#refuseByRamp(state, call, nowMs) ?? this.#admit(state, call, nowMs);
      case "open":
        return whileOpen(state, nowMs);
      case "half-open":
        return whileProbing(state, this.#options, nowMs) ?? this.#admit(state, call, nowMs);
      case "forced-open":
        return forcedOpen;
    }
  }

  /**
   * Takes in whether the channel of a refused call is connected. A connection that was made after the breaker opened
   * is newer than the failures that opened it, so probes may go out before the open period ends.
   *
   * @returns Whether this has ended the open period.
   */
  connectivity(connected: boolean): boolean {
    const nowMs = this.#clock.now();
    const state = this.#at(nowMs);
    if (state.kind !== "open") return false;
    const again = connected && state.unconnected;
    if (!connected) state.unconnected = true;
    if (again) {
      this.#enter(new HalfOpen(this.#known), "connected", "there is a connection again", nowMs);
    }
    return again;
  }

  /**
   * Opens or closes it by hand. `undefined` releases it: one that was forced open goes on with probes, one that was
   * forced closed starts to count anew.
   */
  force(to: "open" | "closed" | undefined): void {
    const nowMs = this.#clock.now();
    const { kind } = this.#at(nowMs);
    const wasForced = kind === "forced-open" || kind === "forced-closed";
    if (to === undefined ? !wasForced : kind === `forced-${to}`) return;
    this.#openPeriods.inARow = 0;
    const known = this.#known;
    if (to === "open") this.#enter({ kind: "forced-open" }, "forced", "opened by hand", nowMs);
    else if (to === "closed") {
      this.#enter(new Closed(known, "forced-closed"), "forced", "closed by hand", nowMs);
    } else {
      const next = kind === "forced-open" ? new HalfOpen(known) : new Closed(known);
      this.#enter(next, "released", "left to itself again", nowMs);
    }
  }

  snapshot(): BreakerSnapshot {
    const nowMs = this.#clock.now();
    const state = this.#at(nowMs);
    const common = { forMs: nowMs - this.#sinceMs, openedInARow: this.#openPeriods.inARow };
    switch (state.kind) {
      case "closed": {
        const rampLeftMs = state.ramp === undefined ? 0 : state.ramp.untilMs - nowMs;
        return { state: "closed", ...common, rampLeftMs, ...state.counts(nowMs) };
      }
      case "forced-closed":
        return { state: "forced-closed", ...common, ...state.counts(nowMs) };
      case "open": {
        const { detail, untilMs } = state;
        return { state: "open", ...common, retryAfterMs: untilMs - nowMs, detail };
      }
      case "half-open": {
        const { probesOut, succeeded } = state;
        return { state: "half-open", ...common, probesOut, succeeded };
      }
      case "forced-open":
        return { state: "forced-open", ...common };
    }
  }

  /**
   * Takes over the state of a breaker of another process, from `readBreakerSnapshot`. Calls in flight and running
   * probes are left out: their ends do not come here.
   */
  restore(snapshot: BreakerSnapshot): void {
    const nowMs = this.#clock.now();
    this.#openPeriods.inARow = snapshot.openedInARow;
    const next = stateOf(snapshot, this.#known, nowMs);
    this.#enter(next, "restored", "restored", nowMs, snapshot.forMs);
  }

  /** For its permits: the call of one has ended. */
  ended(
    permit: BreakerPermit,
    outcome: Outcome,
    ending: Ending | undefined,
    nowMs = this.#clock.now(),
  ): void {
    const { state, peer } = permit;
    if (peer !== undefined && outcome !== "ignored") {
      const bad = outcome === "failure" || isSlow(permit, this.#options, nowMs);
      this.#known.peers.note(peer, bad, nowMs);
    } else if (outcome !== "ignored" && ending?.event !== undefined) {
      // No connect succeeds: the balancer has no server to choose, whatever each of them did before.
      this.#known.peers.forget();
    }
    // Another state may have followed long ago, or just now by the passing of time.
    if (this.#at(nowMs) === state) {
      this.#open(state.settle(permit, outcome, ending, nowMs), nowMs);
      if (state.kind === "half-open" && state.hasRecovered) this.#close(state, nowMs);
    }
    permit.list?.leave(permit);
  }

  /** The state at `nowMs`, after the changes that the passing of time has brought. */
  #at(nowMs: number): BreakerState {
    const state = this.#state;
    if (state.kind === "open") {
      if (nowMs >= state.untilMs) {
        this.#enter(new HalfOpen(this.#known), "rest-over", "the open period is over", nowMs);
      }
    } else if (state.kind !== "forced-open") this.#open(state.advance(nowMs), nowMs);
    // Read again: an observer of the change may have asked the breaker something, and so changed it further.
    return this.#state;
  }

  #refuseByRamp({ ramp }: Closed, call: BreakerCall, nowMs: number): BreakerRefusal | undefined {
    // As many calls as there were probes may always run.
    if (ramp === undefined || call.critical || ramp.running < this.#options.probes) {
      return undefined;
    }
    return this.#random() < ramp.shareAt(nowMs) ? undefined : whileRamping(ramp, nowMs);
  }

  #admit(state: Closed | HalfOpen, { timed }: BreakerCall, nowMs: number): BreakerPermit {
    const events = state.kind === "half-open" ? 0 : state.events;
    const permit = new BreakerPermit(this, state, nowMs, timed, events);
    state.admit(permit);
    return permit;
  }

  #open(trip: Trip | undefined, nowMs: number): void {
    if (trip === undefined) return;
    const { cause, detail, notBeforeMs, unconnected } = trip;
    const untilMs = nowMs + this.#openPeriods.next(notBeforeMs - nowMs);
    this.#enter({ kind: "open", untilMs, detail, unconnected }, cause, detail, nowMs);
  }

  #close({ succeeded }: HalfOpen, nowMs: number): void {
    const detail = succeeded === 1 ? "1 probe succeeded" : `${succeeded} probes succeeded`;
    this.#openPeriods.inARow = 0;
    this.#enter(Closed.afterProbes(this.#known, nowMs), "probes-succeeded", detail, nowMs);
  }

  #enter(next: BreakerState, reason: BreakerCause, detail: string, atMs: number, forMs = 0): void {
    const from = this.#state.kind;
    this.#state = next;
    this.#sinceMs = atMs - forMs;
    if (from === next.kind) return;
    const event: BreakerEvent = {
      type: "breaker.state",
      from,
      to: next.kind,
      atMs,
      reason,
      detail,
    };
    notify(this.#onEvent, event, this.#report, "breaker.onEvent");
  }
}

/** The breaker refuses a call. */
export interface BreakerRefusal extends Refusal {
  readonly reason: Extract<RefusalReason, "BREAKER_OPEN" | "BREAKER_PROBING" | "BREAKER_RAMPING">;
  /**
   * In how many milliseconds to ask again:
   * - `BREAKER_OPEN`: when the open period ends;
   * - `BREAKER_PROBING`: when a probe slot is free at the latest (a probe that ends earlier frees it earlier);
   * - `BREAKER_RAMPING`: when all calls pass.
   *
   * Absent for a breaker that was opened by hand.
   */
  readonly retryAfterMs?: number;
}

const forcedOpen: BreakerRefusal = {
  kind: "refusal",
  reason: "BREAKER_OPEN",
  detail: "opened by hand",
};

function whileOpen({ detail, untilMs }: Open, nowMs: number): BreakerRefusal {
  return { kind: "refusal", reason: "BREAKER_OPEN", retryAfterMs: untilMs - nowMs, detail };
}

/** `undefined` while a probe slot is free. */
function whileProbing(
  state: HalfOpen,
  { probes, probeLeaseMs }: ResolvedBreakerOptions,
  nowMs: number,
): BreakerRefusal | undefined {
  const first = state.nextToFree;
  if (first === undefined) return undefined;
  return {
    kind: "refusal",
    reason: "BREAKER_PROBING",
    retryAfterMs: first.sinceMs + probeLeaseMs - nowMs,
    detail: `${state.probesOut} of ${probes} probes are running`,
  };
}

function whileRamping(ramp: Ramp, nowMs: number): BreakerRefusal {
  return {
    kind: "refusal",
    reason: "BREAKER_RAMPING",
    retryAfterMs: ramp.untilMs - nowMs,
    detail: `${Math.round(ramp.shareAt(nowMs) * 100)} % of the calls pass`,
  };
}

/** How long a breaker stays open. Each period is longer than the one before, up to a bound, until probes succeed. */
class OpenPeriods {
  options: ResolvedBreakerOptions;
  readonly #random: Random;
  /** Open periods since the breaker was closed last. */
  inARow = 0;

  constructor(options: ResolvedBreakerOptions, random: Random) {
    this.options = options;
    this.#random = random;
  }

  /**
   * The next period, in milliseconds.
   *
   * @param askedMs The wait that the server asked for. It is kept up to `maxOpenMs`; jitter only lengthens it.
   */
  next(askedMs: number): number {
    const { openMs, openFactor, maxOpenMs, openJitter } = this.options;
    const grownMs = Math.min(openMs * openFactor ** this.inARow, maxOpenMs);
    this.inARow += 1;
    const chance = this.#random();
    const ownMs = grownMs * (1 + openJitter * (2 * chance - 1));
    return Math.max(ownMs, Math.min(askedMs, maxOpenMs) * (1 + openJitter * chance));
  }
}

/** The permit of a call, and all that the breaker knows about it: one object, so that admitting a call is cheap. */
export class BreakerPermit extends OncePermit implements CallInFlight {
  /** The state that admitted it. */
  readonly state: Closed | HalfOpen;
  readonly sinceMs: number;
  readonly timed: boolean;
  readonly knownEvents: number;
  overdue = false;
  /** The address of the server that the call went to, where that is known. */
  peer: string | undefined;
  list: InFlight | undefined;
  older: CallInFlight | undefined;
  newer: CallInFlight | undefined;
  readonly #breaker: Breaker;
  #endedAtMs: number | undefined;

  constructor(
    breaker: Breaker,
    state: Closed | HalfOpen,
    sinceMs: number,
    timed: boolean,
    knownEvents: number,
  ) {
    super();
    this.#breaker = breaker;
    this.state = state;
    this.sinceMs = sinceMs;
    this.timed = timed;
    this.knownEvents = knownEvents;
  }

  /** @param endedAtMs So that the clock is not read again. */
  override settle(outcome: Outcome, ending?: Ending, peer?: string, endedAtMs?: number): void {
    this.peer = peer;
    this.#endedAtMs = endedAtMs;
    super.settle(outcome, ending);
  }

  /** The server answers. How a stream ends later depends on the application, and no longer counts. */
  delivered(peer?: string): void {
    this.settle("success", undefined, peer);
  }

  protected onSettle(outcome: Outcome, ending: Ending | undefined): void {
    this.#breaker.ended(this, outcome, ending, this.#endedAtMs);
  }
}
