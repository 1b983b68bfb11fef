import type { ResolvedBreakerOptions } from "./breaker-options.js";
import { type OutcomeWindow, timeWindow } from "./window.js";

/** Why a breaker changed its state. */
export type BreakerCause =
  /** So many failures came in a row. */
  | "consecutive-failures"
  /** Too large a share of the calls in the window failed. */
  | "failure-rate"
  /** The rest of an open breaker is over. */
  | "rest-over"
  /** A probe failed. */
  | "probe-failed"
  /** Enough probes succeeded. */
  | "probes-succeeded";

/** Calls pass and are counted. */
export interface Closed {
  readonly kind: "closed";
  readonly window: OutcomeWindow;
  consecutiveFailures: number;
}

/** No call passes before `untilMs`. */
export interface Open {
  readonly kind: "open";
  readonly untilMs: number;
  /** Written once at the opening, for the many refusals that follow. */
  readonly detail: string;
}

/** A few probes pass. */
export interface HalfOpen {
  readonly kind: "half-open";
  /** The probes that are out, in the order in which they expire. */
  readonly leases: Lease[];
  succeeded: number;
}

/** The place of one probe. An object of its own, so that no two places are the same. */
export interface Lease {
  readonly expiresMs: number;
}

export type BreakerState = Closed | Open | HalfOpen;

/** A rule that was broken. */
export interface Trip {
  readonly cause: BreakerCause;
  readonly detail: string;
}

/** The rate forgets a tenth of its window at a time (Hystrix, Linkerd). */
const windowBuckets = 10;

/** The state of a breaker that knows nothing yet. */
export function closed(options: ResolvedBreakerOptions): Closed {
  const window = timeWindow({ spanMs: options.windowMs, buckets: windowBuckets });
  return { kind: "closed", window, consecutiveFailures: 0 };
}

/** The rule that a failure has just broken, if any. */
export function tripped(
  state: Closed,
  options: ResolvedBreakerOptions,
  nowMs: number,
): Trip | undefined {
  const inARow = state.consecutiveFailures;
  if (options.consecutiveFailures !== false && inARow >= options.consecutiveFailures) {
    return {
      cause: "consecutive-failures",
      detail: inARow === 1 ? "1 failure" : `${inARow} failures in a row`,
    };
  }
  if (options.failureRate === false) return undefined;
  const { calls, failures } = state.window.totals(nowMs);
  // Divided, not multiplied: 7 of 100 is exactly the double 0.07, but 0.07 * 100 is above 7.
  if (calls < options.minCalls || failures / calls < options.failureRate) return undefined;
  return {
    cause: "failure-rate",
    detail: `${failures} of ${calls} calls failed within ${options.windowMs} ms`,
  };
}

/** Takes back the places of probes that took too long. The first to lapse stand in front. */
export function dropLapsed(leases: Lease[], nowMs: number): void {
  let lapsed = 0;
  for (const lease of leases) {
    if (nowMs < lease.expiresMs) break;
    lapsed += 1;
  }
  if (lapsed > 0) leases.splice(0, lapsed);
}
