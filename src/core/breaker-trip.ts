import type { ResolvedBreakerOptions } from "./breaker-options.js";
import type { WindowTotals } from "./window.js";

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
export const enoughEvents = 3;

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
export function brokenRule(
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
