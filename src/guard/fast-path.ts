import type { PolicyName } from "../core/decision.js";
import { isQueued, isRefusal, type Permit, type Refusal } from "../core/permit.js";
import { begun } from "../core/user-code.js";
import { GuardRejectedError } from "../grpc/status/guard-rejected-error.js";
import type { CompiledGuard } from "./compiled.js";
import { type GuardedWork, neverAborted } from "./options.js";
import { GuardRun } from "./run.js";

/**
 * Whether a run is one attempt that nothing but its work ends, behind policies that are all enforced. Most of a
 * {@link GuardRun} is not needed then, and costs more than the policies themselves.
 */
export function isFast({
  bulkhead,
  breaker,
  retry,
  timer,
  attemptTimer,
  pendingCalls,
}: CompiledGuard): boolean {
  return (
    (retry ?? timer ?? attemptTimer) === undefined &&
    !pendingCalls.closed &&
    (bulkhead === undefined || bulkhead.mode === "enforce") &&
    (breaker === undefined || breaker.modeFor(undefined) === "enforce")
  );
}

/**
 * A run without an inbound call and without options, for a guard that {@link isFast}: what the work gives is handed on
 * by its own promise. A run that has to wait becomes a {@link GuardRun}.
 */
export function runFast<T>(guard: CompiledGuard, work: GuardedWork<T>): Promise<T> {
  const { bulkhead, breaker, counts } = guard;
  let slot: Permit | undefined;
  if (bulkhead !== undefined) {
    const resting = breaker?.check(undefined);
    if (resting !== undefined) return refuse(guard, "breaker", resting);
    const entry = bulkhead.ask(undefined, "normal", Number.POSITIVE_INFINITY, 1);
    if (isQueued(entry)) {
      return new GuardRun(guard, work, undefined, undefined, undefined, entry).start();
    }
    if (isRefusal(entry)) return refuse(guard, "bulkhead", entry);
    slot = entry;
  }
  let permit: Permit | undefined;
  if (breaker !== undefined) {
    const entry = breaker.acquire(undefined, false);
    if (isRefusal(entry)) {
      slot?.settle("ignored");
      return refuse(guard, "breaker", entry);
    }
    permit = entry;
  }
  const succeeded = (value: T): T => {
    permit?.settle("success");
    slot?.settle("success");
    counts.succeeded += 1;
    return value;
  };
  const failed = (error: unknown): never => {
    permit?.settle(breaker?.outcomeOf(error) ?? "failure");
    slot?.settle("failure");
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

function refuse(guard: CompiledGuard, policy: PolicyName, refused: Refusal): Promise<never> {
  guard.counts.rejected += 1;
  if (guard.hears(undefined)) {
    const { reason, detail } = refused;
    const atMs = guard.clock.now();
    const decision = { policy, verdict: "reject", enforced: true, atMs, reason, detail } as const;
    guard.decide(undefined, undefined, decision);
  }
  // A promise that is rejected before anybody can listen is taken for an unhandled one, which costs Node more than all
  // of this; one microtask later, somebody listens.
  return atOnce.then(() => {
    throw new GuardRejectedError(guard.name, refused);
  });
}
