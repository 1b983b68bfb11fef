import { askedFor } from "./breaker-closed.js";
import type { ResolvedBreakerOptions } from "./breaker-options.js";
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
  readonly #options: ResolvedBreakerOptions;
  /** Those that are out, in the order in which they expire. */
  readonly #probes: Probe[] = [];
  succeeded: number;

  constructor(options: ResolvedBreakerOptions, succeeded = 0) {
    this.#options = options;
    this.succeeded = succeeded;
  }

  get probesOut(): number {
    return this.#probes.length;
  }

  /** The probe that gives its place back next, if all places are taken. */
  get inTheWay(): Probe | undefined {
    return this.#probes.length < this.#options.probes ? undefined : this.#probes[0];
  }

  /** Enough of them have succeeded. */
  get convinced(): boolean {
    return this.succeeded >= this.#options.successesToClose;
  }

  admit(probe: Probe): void {
    this.#probes.push(probe);
  }

  /** What time has done: leases have lapsed, and a probe that takes too long has failed. */
  look(nowMs: number): Trip | undefined {
    const { inFlightMs, probeLeaseMs } = this.#options;
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
    return undefined;
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
    if (outcome === "ignored") return undefined;
    if (outcome === "failure") {
      return probeFailed("a probe failed", askedFor(ending, this.#options, nowMs));
    }
    const { slowMs } = this.#options;
    if (slowMs !== false && probe.timed && nowMs - probe.sinceMs > slowMs) {
      return probeFailed(`a probe took longer than ${slowMs} ms`);
    }
    this.succeeded += 1;
    return undefined;
  }
}

function probeFailed(detail: string, notBeforeMs = Number.NEGATIVE_INFINITY): Trip {
  return { cause: "probe-failed", detail, notBeforeMs };
}
