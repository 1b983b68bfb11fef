import type { ResolvedBreakerOptions } from "./breaker-options.js";
import {
  type BreakerCause,
  type BreakerState,
  type Closed,
  closed,
  dropLapsed,
  type HalfOpen,
  type Lease,
  type Open,
  type Trip,
  tripped,
} from "./breaker-state.js";
import type { Clock } from "./clock.js";
import { notify, type Observer, type ReportError } from "./notify.js";
import { type Outcome, type Permit, permit } from "./permit.js";
import type { Reason } from "./reasons.js";
import type { Refusal } from "./refusal.js";

/** `closed`: calls pass and are counted. `open`: none passes. `half-open`: a few probes pass. */
export type BreakerStateName = BreakerState["kind"];

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
}

/** The breaker lets no call through now. */
export interface BreakerRefusal extends Refusal {
  readonly reason: Extract<Reason, "BREAKER_OPEN" | "BREAKER_PROBING">;
  /**
   * When to ask again. For `BREAKER_OPEN` the rest that is left; for `BREAKER_PROBING` when a place
   * is free at the latest, though a probe that ends earlier frees one earlier.
   */
  readonly retryAfterMs: number;
}

/** What a breaker knows at one moment, for people and reports. Not live. */
export type BreakerSnapshot = {
  /** How often the state has changed. */
  readonly epoch: number;
  /** When the present state began, on the monotonic clock. */
  readonly sinceMs: number;
} & (
  | {
      readonly state: "closed";
      /** Within the window. */
      readonly calls: number;
      /** Within the window. */
      readonly failures: number;
      readonly consecutiveFailures: number;
    }
  | { readonly state: "open"; readonly retryAfterMs: number; readonly detail: string }
  | { readonly state: "half-open"; readonly probesOut: number; readonly succeeded: number }
);

/**
 * A circuit breaker for one key. It opens on failures in a row or on a share of failures, rests, lets
 * a few probes through, and closes when enough of them succeed (the two rules together: Linkerd).
 *
 * It runs no timer: each question first brings the state up to date with the clock. An outcome counts
 * only in the state that admitted the call, so a straggler neither opens nor closes a later one. A
 * probe is a lease: one that never ends, or ends in `ignored`, gives its place back.
 */
export class Breaker {
  readonly #options: ResolvedBreakerOptions;
  readonly #clock: Pick<Clock, "now">;
  readonly #onEvent: Observer<BreakerEvent> | undefined;
  readonly #report: ReportError;
  #state: BreakerState;
  #epoch = 0;
  #sinceMs: number;

  /**
   * @param options From `resolveBreakerOptions`.
   * @param onEvent Told of each change of state. What it throws goes to `report`.
   * @param report Without it, what `onEvent` throws is lost.
   */
  constructor(
    options: ResolvedBreakerOptions,
    clock: Pick<Clock, "now">,
    onEvent?: Observer<BreakerEvent>,
    report: ReportError = () => {},
  ) {
    this.#options = options;
    this.#clock = clock;
    this.#onEvent = onEvent;
    this.#report = report;
    this.#state = closed(options);
    this.#sinceMs = clock.now();
  }

  get state(): BreakerStateName {
    return this.#at(this.#clock.now()).kind;
  }

  /** The refusal that a call would meet now. Takes no place. */
  check(): BreakerRefusal | undefined {
    // Time alone never changes a closed breaker, so the usual case reads no clock.
    if (this.#state.kind === "closed") return undefined;
    const nowMs = this.#clock.now();
    const state = this.#at(nowMs);
    switch (state.kind) {
      case "closed":
        return undefined;
      case "open":
        return resting(state, nowMs);
      case "half-open":
        return crowded(state, this.#options.probes, nowMs);
    }
  }

  /** Admits a call or refuses it. The permit must be settled; that of a probe lapses if it is not. */
  acquire(): Permit | BreakerRefusal {
    if (this.#state.kind === "closed") return this.#call(this.#state);
    const nowMs = this.#clock.now();
    const state = this.#at(nowMs);
    switch (state.kind) {
      case "closed":
        return this.#call(state);
      case "open":
        return resting(state, nowMs);
      case "half-open":
        return crowded(state, this.#options.probes, nowMs) ?? this.#probe(state, nowMs);
    }
  }

  snapshot(): BreakerSnapshot {
    const nowMs = this.#clock.now();
    const state = this.#at(nowMs);
    const common = { epoch: this.#epoch, sinceMs: this.#sinceMs };
    switch (state.kind) {
      case "closed": {
        const { calls, failures } = state.window.totals(nowMs);
        const { consecutiveFailures } = state;
        return { ...common, state: "closed", calls, failures, consecutiveFailures };
      }
      case "open": {
        const { detail, untilMs } = state;
        return { ...common, state: "open", retryAfterMs: untilMs - nowMs, detail };
      }
      case "half-open": {
        const { leases, succeeded } = state;
        return { ...common, state: "half-open", probesOut: leases.length, succeeded };
      }
    }
  }

  /** The state at `nowMs`, after all that time alone has changed. */
  #at(nowMs: number): BreakerState {
    const state = this.#state;
    if (state.kind === "open" && nowMs >= state.untilMs) {
      this.#enter({ kind: "half-open", leases: [], succeeded: 0 }, "rest-over", nowMs);
    } else if (state.kind === "half-open") {
      dropLapsed(state.leases, nowMs);
    }
    // Read again: whoever is told of a change may ask the breaker something and so change it further.
    return this.#state;
  }

  #call(state: Closed): Permit {
    const epoch = this.#epoch;
    return permit((outcome) => {
      if (epoch === this.#epoch) this.#settleCall(state, outcome);
    });
  }

  #settleCall(state: Closed, outcome: Outcome): void {
    if (outcome === "ignored") return;
    const nowMs = this.#clock.now();
    const failed = outcome === "failure";
    state.window.record(nowMs, failed, false);
    state.consecutiveFailures = failed ? state.consecutiveFailures + 1 : 0;
    if (!failed) return; // A success may complete `minCalls`, but it is no moment to open.
    const trip = tripped(state, this.#options, nowMs);
    if (trip !== undefined) this.#open(trip, nowMs);
  }

  #probe(state: HalfOpen, nowMs: number): Permit {
    const epoch = this.#epoch;
    const lease: Lease = { expiresMs: nowMs + this.#options.probeLeaseMs };
    state.leases.push(lease);
    return permit((outcome) => {
      if (epoch === this.#epoch) this.#settleProbe(state, lease, outcome);
    });
  }

  #settleProbe(state: HalfOpen, lease: Lease, outcome: Outcome): void {
    const nowMs = this.#clock.now();
    dropLapsed(state.leases, nowMs);
    const place = state.leases.indexOf(lease);
    if (place === -1) return; // Lapsed: another probe may stand there already.
    state.leases.splice(place, 1);
    if (outcome === "failure") {
      this.#open({ cause: "probe-failed", detail: "a probe failed" }, nowMs);
    } else if (outcome === "success") {
      state.succeeded += 1;
      if (state.succeeded >= this.#options.probes) {
        this.#enter(closed(this.#options), "probes-succeeded", nowMs);
      }
    }
  }

  #open(trip: Trip, nowMs: number): void {
    const untilMs = nowMs + this.#options.openMs;
    this.#enter({ kind: "open", untilMs, detail: trip.detail }, trip.cause, nowMs);
  }

  #enter(next: BreakerState, reason: BreakerCause, atMs: number): void {
    const from = this.#state.kind;
    this.#state = next;
    this.#sinceMs = atMs;
    this.#epoch += 1;
    const event: BreakerEvent = { type: "breaker.state", from, to: next.kind, atMs, reason };
    notify(this.#onEvent, event, this.#report, "breaker.onEvent");
  }
}

function resting(state: Open, nowMs: number): BreakerRefusal {
  const { detail, untilMs } = state;
  return { kind: "refusal", reason: "BREAKER_OPEN", retryAfterMs: untilMs - nowMs, detail };
}

function crowded(state: HalfOpen, probes: number, nowMs: number): BreakerRefusal | undefined {
  const [first] = state.leases;
  if (first === undefined || state.leases.length < probes) return undefined;
  return {
    kind: "refusal",
    reason: "BREAKER_PROBING",
    retryAfterMs: first.expiresMs - nowMs,
    detail: `${state.leases.length} of ${probes} probes are out`,
  };
}
