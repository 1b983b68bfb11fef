import type { Reason } from "../../core/decision.js";
import type { ResolvedHedgeOptions } from "./options.js";

/** How far a hedged call has come. */
export interface HedgeProgress {
  /** Attempts that were started, the first included. */
  readonly started: number;
  /** Those of them that have not ended; one that has just failed is not among them. */
  readonly inFlight: number;
  readonly maxAttempts: number;
  /** A server has said to send no more. */
  readonly stopped: boolean;
}

export interface HedgeFailure extends HedgeProgress {
  /** Whether the status ends the call: by its code, its origin, and what the method may bear. */
  readonly fatal: boolean;
  /** `grpc-retry-pushback-ms`: the exact wait, `stop`, or nothing. */
  readonly pushback: number | "stop" | undefined;
}

export type HedgeDecision =
  /** End the call with the status just received and cancel what is in flight. */
  | { readonly kind: "fail"; readonly reason: Reason }
  /**
   * Another attempt may still answer. With `stop`, no further one may start: clear the timer, and say
   * `stopped` from now on.
   */
  | { readonly kind: "wait"; readonly reason: Reason; readonly stop?: true }
  /**
   * Start the next attempt in so many milliseconds, in place of the one that the timer would have
   * started. After it, the timer runs with the usual delay again.
   */
  | { readonly kind: "launch"; readonly inMs: number };

/** Whether the timer may start another attempt. The budget is asked besides. */
export function mayHedge({ started, maxAttempts, stopped }: HedgeProgress): boolean {
  return !stopped && started < maxAttempts;
}

/**
 * What follows when one attempt of a hedged call has failed, by gRFC A6: a fatal status ends the call; any
 * other one has the next attempt sent, at once or when the server says. Which failure is reported
 * when all fail, A6 leaves open: here, the last one received.
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
 * What follows when no attempt may start now. Besides the cases above, that is when the budget, the
 * deadline or a policy below refuses one: it is dropped, not put off (A6). With none in flight, the call ends with the last status received.
 */
export function withoutHedge(inFlight: number, reason: Reason): HedgeDecision {
  return inFlight > 0 ? { kind: "wait", reason } : fail(reason);
}

/**
 * How long to wait before the next attempt, in milliseconds.
 *
 * @param learnedMs The quantile of the method's attempts, if enough is known.
 * @returns nothing when no attempt may be added for being slow: there is nothing yet to call slow.
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
