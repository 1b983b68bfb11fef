import type { Reason } from "../../core/decision.js";
import type { ResolvedHedgeOptions } from "./options.js";

/** The state of a hedged call. */
export interface HedgeProgress {
  /** Attempts that were started, the first included. */
  readonly started: number;
  /** Attempts that have not ended. One that has just failed is not among them. */
  readonly inFlight: number;
  readonly maxAttempts: number;
  /** No further attempt may start, because of a server's pushback, the budget or the deadline. */
  readonly stopped: boolean;
}

/** A hedged call when one of its attempts has failed. */
export interface HedgeFailure extends HedgeProgress {
  /** Whether the failure ends the call, by its code and its origin. */
  readonly fatal: boolean;
  /** The server's pushback: the exact wait in milliseconds, or `stop`. */
  readonly pushback: number | "stop" | undefined;
}

export type HedgeDecision =
  /** End the call with the last status, and cancel the attempts in flight. */
  | { readonly kind: "fail"; readonly reason: Reason }
  /**
   * Wait for the attempts in flight. With `stop`, no further attempt may start: cancel the timer, and pass
   * `stopped: true` from now on.
   */
  | { readonly kind: "wait"; readonly reason: Reason; readonly stop?: true }
  /**
   * Start the next attempt in `inMs` milliseconds, instead of the one that the timer would start. After it, the timer
   * runs with the usual wait again.
   */
  | { readonly kind: "launch"; readonly inMs: number };

/** Whether another attempt may start. The retry budget must allow it as well. */
export function mayHedge({ started, maxAttempts, stopped }: HedgeProgress): boolean {
  return !stopped && started < maxAttempts;
}

/**
 * What to do when an attempt of a hedged call has failed, by gRFC A6: a fatal status ends the call; after any other one
 * the next attempt starts, at once or when the server's pushback says. When all attempts fail, the call ends with the
 * last status, which A6 leaves open.
 */
export function hedgeAfterFailure(failed: HedgeFailure): HedgeDecision {
  if (failed.fatal) return fail("RETRY_NOT_ELIGIBLE");
  if (failed.pushback === "stop") {
    return failed.inFlight > 0
      ? { kind: "wait", reason: "RETRY_PUSHBACK_STOP", stop: true }
      : fail("RETRY_PUSHBACK_STOP");
  }
  if (mayHedge(failed)) return { kind: "launch", inMs: failed.pushback ?? 0 };
  return withoutHedge(
    failed.inFlight,
    failed.stopped ? "RETRY_PUSHBACK_STOP" : "RETRY_ATTEMPTS_SPENT",
  );
}

/**
 * What to do when no further attempt may start now: also because the budget, the deadline or a policy below refused it.
 * Such an attempt is dropped and not made later (gRFC A6). Without attempts in flight, the call ends with the last
 * status.
 */
export function withoutHedge(inFlight: number, reason: Reason): HedgeDecision {
  return inFlight > 0 ? { kind: "wait", reason } : fail(reason);
}

/**
 * How long to wait before the next attempt, in milliseconds.
 *
 * @param learnedMs The quantile of the time that the method's attempts took; `undefined` while too few are known.
 * @returns `undefined` where the wait is learned and not known yet: no attempt is added.
 */
export function hedgeDelayMs(
  { delayMs, minDelayMs }: ResolvedHedgeOptions,
  learnedMs: number | undefined,
): number | undefined {
  if (delayMs !== undefined) return delayMs;
  return learnedMs === undefined ? undefined : Math.max(minDelayMs, learnedMs);
}

function fail(reason: Reason): HedgeDecision {
  return { kind: "fail", reason };
}
