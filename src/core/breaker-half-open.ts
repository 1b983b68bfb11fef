import { askedFor, type BreakerKnowledge, isSlow, isUnconnected } from "./breaker-closed.js";
import type { Trip } from "./breaker-trip.js";
import type { Ending, Outcome } from "./permit.js";

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
