import { type Clock, type Random, systemRandom } from "../../core/clock.js";
import type { RefusalReason } from "../../core/decision.js";
import { HeardEvents } from "../../core/heard-events.js";
import { type Ending, OncePermit, type Outcome, type Refusal } from "../../core/permit.js";
import { notify, type Observer, type ReportError, warn } from "../../core/user-code.js";
import type { ResolvedBreakerOptions } from "./options.js";
import { Peers } from "./peers.js";
import { type BreakerSnapshot, stateOf } from "./snapshot.js";
import {
  type BreakerCause,
  type BreakerKnowledge,
  type BreakerState,
  type BreakerStateName,
  Closed,
  HalfOpen,
  type InFlight,
  isSlow,
  type Open,
  type Ramp,
  type Trip,
  type UnderWay,
} from "./states.js";

/** Told after the state has changed. */
export interface BreakerEvent {
  readonly type: "breaker.state";
  readonly from: BreakerStateName;
  readonly to: BreakerStateName;
  /**
   * When the breaker changed, on the monotonic clock. No timer runs: the end of a rest is noticed at
   * the next question to the breaker, and has the time of that question.
   */
  readonly atMs: number;
  readonly reason: BreakerCause;
  /** For a person: the numbers behind it, such as `5 failures in a row`. */
  readonly detail: string;
}

/** What a call tells the breaker of itself. */
export interface BreakerCall {
  /** How long it takes says something. Not so for a stream, whose length is the application's. */
  readonly timed: boolean;
  /** A ramp does not hold it back. */
  readonly critical: boolean;
}

const ordinary: BreakerCall = { timed: true, critical: false };

/**
 * A circuit breaker for one key. It opens on failures in a row, on a share of failures or on a share of
 * slow calls, rests, lets a few probes through, and closes when enough of them succeed (the first two rules
 * together: Linkerd). Then it lets a growing share of the calls through.
 *
 * It runs no timer: each question first brings the state up to date with the clock. An outcome counts
 * only in the state that admitted the call, so a straggler neither opens nor closes a later one. A
 * probe is a lease: one that never ends, or ends in `ignored`, gives its place back.
 *
 * One event is one piece of evidence, however many calls it ended: a failure lengthens a row only if its call began
 * when the failure before was known. And it stays closed while some server behind the target is known to serve.
 */
export class Breaker {
  readonly #options: ResolvedBreakerOptions;
  readonly #known: BreakerKnowledge;
  readonly #clock: Pick<Clock, "now">;
  readonly #onEvent: Observer<BreakerEvent> | undefined;
  readonly #report: ReportError;
  readonly #random: Random;
  readonly #openPeriods: OpenPeriods;
  readonly #onSettle: OnSettle;
  /** Some rule asks how long a call takes. */
  readonly #timed: boolean;
  /** Time alone may open it. */
  readonly #watchful: boolean;
  #state: BreakerState;
  #sinceMs: number;

  /**
   * @param options From `resolveBreakerOptions`.
   * @param onEvent Told of each change of state. What it throws goes to `report`.
   * @param report Without it, what `onEvent` throws is a warning of the process.
   * @param random Chance, for the rests and the ramp.
   */
  constructor(
    options: ResolvedBreakerOptions,
    clock: Pick<Clock, "now">,
    onEvent?: Observer<BreakerEvent>,
    report: ReportError = warn,
    random: Random = systemRandom,
  ) {
    this.#options = options;
    this.#known = { options, peers: new Peers(options.windowMs), heard: new HeardEvents() };
    this.#clock = clock;
    this.#onEvent = onEvent;
    this.#report = report;
    this.#random = random;
    this.#openPeriods = new OpenPeriods(options, random);
    this.#onSettle = (permit, outcome, ending) => this.#settle(permit, outcome, ending);
    this.#watchful = options.inFlightMs !== false;
    this.#timed = options.slowMs !== false || this.#watchful;
    this.#state = new Closed(this.#known);
    this.#sinceMs = clock.now();
  }

  get state(): BreakerStateName {
    return this.#at(this.#clock.now()).kind;
  }

  /**
   * The refusal that a call would meet now. Takes no place, and tries no luck: of a ramp, whose answer is
   * a matter of chance, it says nothing.
   */
  check(): BreakerRefusal | undefined {
    // The usual case reads no clock.
    if (this.#state.kind === "closed" && !this.#watchful) return undefined;
    const nowMs = this.#clock.now();
    const state = this.#at(nowMs);
    switch (state.kind) {
      case "closed":
      case "forced-closed":
        return undefined;
      case "open":
        return resting(state, nowMs);
      case "half-open":
        return crowded(state, this.#options, nowMs);
      case "forced-open":
        return forcedOpen;
    }
  }

  /** Admits a call or refuses it. The permit must be settled; that of a probe lapses if it is not. */
  acquire(call: BreakerCall = ordinary): BreakerPermit | BreakerRefusal {
    const usual = this.#state;
    if (!this.#timed && usual.kind === "closed" && usual.ramp === undefined) {
      return new BreakerPermit(usual, 0, false, usual.events, this.#onSettle);
    }
    const nowMs = this.#clock.now();
    const state = this.#at(nowMs);
    switch (state.kind) {
      case "closed":
      case "forced-closed":
        return this.#heldBack(state, call, nowMs) ?? this.#admit(state, call, nowMs);
      case "open":
        return resting(state, nowMs);
      case "half-open":
        return crowded(state, this.#options, nowMs) ?? this.#admit(state, call, nowMs);
      case "forced-open":
        return forcedOpen;
    }
  }

  /**
   * Told of the channel of a call that was refused. A connection made since the breaker opened is newer than all it
   * goes by, so probes may go out before the rest is over.
   */
  connectivity(connected: boolean): void {
    const nowMs = this.#clock.now();
    const state = this.#at(nowMs);
    if (state.kind !== "open") return;
    if (!connected) state.unconnected = true;
    else if (state.unconnected) {
      this.#enter(new HalfOpen(this.#known), "connected", "there is a connection again", nowMs);
    }
  }

  /**
   * Opens or closes it by hand, or with `undefined` leaves it to itself again: one that was forced open
   * then begins with probes, and one that was forced closed begins to count anew.
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
   * Takes over what a breaker of another process knew, from `readBreakerSnapshot`. Calls under way and
   * probes that were out are not taken over: their ends will not come here.
   */
  restore(snapshot: BreakerSnapshot): void {
    const nowMs = this.#clock.now();
    this.#openPeriods.inARow = snapshot.openedInARow;
    const next = stateOf(snapshot, this.#known, nowMs);
    this.#enter(next, "restored", "restored", nowMs, snapshot.forMs);
  }

  /** The state at `nowMs`, after all that time alone has changed. */
  #at(nowMs: number): BreakerState {
    const state = this.#state;
    if (state.kind === "open") {
      if (nowMs >= state.untilMs) {
        this.#enter(new HalfOpen(this.#known), "rest-over", "the rest is over", nowMs);
      }
    } else if (state.kind !== "forced-open") this.#open(state.look(nowMs), nowMs);
    // Read again: whoever is told of a change may ask the breaker something and so change it further.
    return this.#state;
  }

  /** The refusal of a ramp. */
  #heldBack({ ramp }: Closed, call: BreakerCall, nowMs: number): BreakerRefusal | undefined {
    // As few calls as there were probes are no flood.
    if (ramp === undefined || call.critical || ramp.running < this.#options.probes) {
      return undefined;
    }
    return this.#random() < ramp.shareAt(nowMs) ? undefined : ramping(ramp, nowMs);
  }

  #admit(state: Closed | HalfOpen, { timed }: BreakerCall, nowMs: number): BreakerPermit {
    const events = state.kind === "half-open" ? 0 : state.events;
    const permit = new BreakerPermit(state, nowMs, timed, events, this.#onSettle);
    state.admit(permit);
    return permit;
  }

  #settle(permit: BreakerPermit, outcome: Outcome, ending: Ending | undefined): void {
    const { state, peer } = permit;
    const nowMs = this.#clock.now();
    if (peer !== undefined && outcome !== "ignored") {
      const bad = outcome === "failure" || isSlow(permit, this.#options, nowMs);
      this.#known.peers.note(peer, bad, nowMs);
    } else if (outcome !== "ignored" && ending?.event !== undefined) {
      // The balancer has no server to choose, whatever each of them did before.
      this.#known.peers.forget();
    }
    // Another state may have followed long ago, or by time alone just now.
    if (this.#at(nowMs) === state) {
      this.#open(state.settle(permit, outcome, ending, nowMs), nowMs);
      if (state.kind === "half-open" && state.convinced) this.#close(state, nowMs);
    }
    permit.row?.leave(permit);
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
    this.#enter(Closed.again(this.#known, nowMs), "probes-succeeded", detail, nowMs);
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

/** The breaker lets no call through now. */
export interface BreakerRefusal extends Refusal {
  readonly reason: Extract<RefusalReason, "BREAKER_OPEN" | "BREAKER_PROBING" | "BREAKER_RAMPING">;
  /**
   * When to ask again. For `BREAKER_OPEN` the rest that is left; for `BREAKER_PROBING` when a place is
   * free at the latest, though a probe that ends earlier frees one earlier; for `BREAKER_RAMPING` when
   * all calls pass. Absent for a breaker that was opened by hand.
   */
  readonly retryAfterMs?: number;
}

const forcedOpen: BreakerRefusal = {
  kind: "refusal",
  reason: "BREAKER_OPEN",
  detail: "opened by hand",
};

function resting({ detail, untilMs }: Open, nowMs: number): BreakerRefusal {
  return { kind: "refusal", reason: "BREAKER_OPEN", retryAfterMs: untilMs - nowMs, detail };
}

/** Where all places for probes are taken. */
function crowded(
  state: HalfOpen,
  { probes, probeLeaseMs }: ResolvedBreakerOptions,
  nowMs: number,
): BreakerRefusal | undefined {
  const first = state.inTheWay;
  if (first === undefined) return undefined;
  return {
    kind: "refusal",
    reason: "BREAKER_PROBING",
    retryAfterMs: first.sinceMs + probeLeaseMs - nowMs,
    detail: `${state.probesOut} of ${probes} probes are out`,
  };
}

function ramping(ramp: Ramp, nowMs: number): BreakerRefusal {
  return {
    kind: "refusal",
    reason: "BREAKER_RAMPING",
    retryAfterMs: ramp.untilMs - nowMs,
    detail: `${Math.round(ramp.shareAt(nowMs) * 100)} % of the calls pass`,
  };
}

/**
 * How long a breaker rests. Each rest is longer than the one before, up to a bound, until probes succeed.
 */
export class OpenPeriods {
  readonly #options: ResolvedBreakerOptions;
  readonly #random: Random;
  /** Rests since the breaker was last closed. */
  inARow = 0;

  constructor(options: ResolvedBreakerOptions, random: Random) {
    this.#options = options;
    this.#random = random;
  }

  /**
   * The next rest, in milliseconds.
   *
   * @param askedMs The rest that the other side asked for; it is kept up to the bound, and never cut short by chance.
   */
  next(askedMs: number): number {
    const { openMs, openFactor, maxOpenMs, openJitter } = this.#options;
    const grownMs = Math.min(openMs * openFactor ** this.inARow, maxOpenMs);
    this.inARow += 1;
    const chance = this.#random();
    const ownMs = grownMs * (1 + openJitter * (2 * chance - 1));
    return Math.max(ownMs, Math.min(askedMs, maxOpenMs) * (1 + openJitter * chance));
  }
}

/** What a breaker does with the end of a call that it has admitted. */
export type OnSettle = (
  permit: BreakerPermit,
  outcome: Outcome,
  ending: Ending | undefined,
) => void;

/**
 * A call that a breaker has let through. All that is known of it is in this one object, and all permits of
 * a breaker share its function, so that admitting a call costs little.
 */
export class BreakerPermit extends OncePermit implements UnderWay {
  /** The state that admitted it. */
  readonly state: Closed | HalfOpen;
  readonly sinceMs: number;
  readonly timed: boolean;
  readonly knownEvents: number;
  /** The server that the call went to, of those behind the target, where that is known. */
  peer: string | undefined;
  row: InFlight | undefined;
  older: UnderWay | undefined;
  newer: UnderWay | undefined;
  readonly #onSettle: OnSettle;

  constructor(
    state: Closed | HalfOpen,
    sinceMs: number,
    timed: boolean,
    knownEvents: number,
    onSettle: OnSettle,
  ) {
    super();
    this.state = state;
    this.sinceMs = sinceMs;
    this.timed = timed;
    this.knownEvents = knownEvents;
    this.#onSettle = onSettle;
  }

  override settle(outcome: Outcome, ending?: Ending, peer?: string): void {
    this.peer = peer;
    super.settle(outcome, ending);
  }

  /** It is served, and its length is the application's: what ends it later says nothing more. */
  delivered(peer?: string): void {
    this.settle("success", undefined, peer);
  }

  protected onSettle(outcome: Outcome, ending: Ending | undefined): void {
    this.#onSettle(this, outcome, ending);
  }
}
