import type { Permit } from "../core/permit.js";
import { priorityRank } from "../core/priority.js";
import { isRefusal, type Refusal } from "../core/refusal.js";
import { isQueued } from "../core/turn.js";
import { begun } from "../core/user-code.js";
import { GuardRejectedError } from "../grpc/guard-rejection.js";
import type { GuardedWork } from "./guard-life.js";
import type { GuardPlan } from "./guard-plan.js";
import { GuardRun } from "./guard-run.js";
import { neverAborted } from "./guard-signal.js";

/** Nothing but the work ends such a run, nothing follows it, and its policies are asked once: most of a run is not needed. */
export function isQuick(plan: GuardPlan): boolean {
  const { bulkhead, breaker, room } = plan;
  return (
    plan.single &&
    !room.closed &&
    (bulkhead === undefined || bulkhead.mode === "enforce") &&
    (breaker === undefined || breaker.modeFor(undefined) === "enforce")
  );
}

/**
 * A run without an inbound call and without options, for a plan that {@link isQuick}: what the work gives is handed on
 * by its own promise. A run that has to wait becomes a whole one.
 */
export function runQuickly<T>(plan: GuardPlan, work: GuardedWork<T>): Promise<T> {
  const { bulkhead, breaker, counts } = plan;
  let held: Permit | undefined;
  if (bulkhead !== undefined) {
    const resting = breaker?.check(undefined);
    if (resting !== undefined) return refuse(plan, "breaker", resting);
    const place = bulkhead.of(undefined);
    const entry = place.enter(priorityRank.normal, Number.POSITIVE_INFINITY, plan.nextTurn.onTurn);
    if (isQueued(entry)) {
      return new GuardRun(plan, work, undefined, undefined, undefined).startQueued(entry);
    }
    if (isRefusal(entry)) return refuse(plan, "bulkhead", entry);
    held = entry;
  }
  let permit: Permit | undefined;
  if (breaker !== undefined) {
    const entry = breaker.acquire(undefined, false);
    if (isRefusal(entry)) {
      held?.settle("ignored");
      return refuse(plan, "breaker", entry);
    }
    permit = entry;
  }
  const succeeded = (value: T): T => {
    permit?.settle("success");
    held?.settle("success");
    counts.succeeded += 1;
    return value;
  };
  const failed = (error: unknown): never => {
    permit?.settle(breaker?.outcomeOf(error) ?? "failure");
    held?.settle("failure");
    counts.failed += 1;
    throw error;
  };
  let made: T | Promise<T>;
  try {
    made = begun(work, never);
    // Within: what only looks like a promise throws here.
    if (made instanceof Promise) return made.then(succeeded, failed);
  } catch (error) {
    return Promise.reject(error).then(succeeded, failed);
  }
  return Promise.resolve(succeeded(made));
}

const never = (): AbortSignal => neverAborted;
const atOnce = Promise.resolve();

function refuse(plan: GuardPlan, policy: "breaker" | "bulkhead", refused: Refusal): Promise<never> {
  plan.counts.rejected += 1;
  plan.decide(undefined, undefined, policy, "reject", true, refused);
  // A promise that is rejected before anybody can listen is taken for an unhandled one, which costs Node more than all
  // of this; one microtask later, somebody listens.
  return atOnce.then(() => {
    throw new GuardRejectedError(plan.name, refused);
  });
}
