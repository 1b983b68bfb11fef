import { begun } from "../core/user-code.js";
import { GuardRejectedError } from "../grpc/status/guard-rejected-error.js";
import { type CompiledGuard, Passed, type Refused } from "./compiled.js";
import { type GuardedWork, neverAborted } from "./options.js";
import type { GuardPassage } from "./policies.js";
import { GuardRun } from "./run.js";

/** What the policies see of a run on the fast path. */
const plain: GuardPassage = {
  key: undefined,
  priority: "normal",
  weight: 1,
  byMs: Number.POSITIVE_INFINITY,
  timed: false,
  queued: undefined,
};

/**
 * A run without an inbound call and without options, of a guard whose runs are one attempt that nothing but the work
 * ends. Most of a {@link GuardRun} is not needed then, and costs more than the policies themselves: what the work gives
 * is handed on by its own promise. A run that has to wait, or that a policy observes, becomes a whole one.
 */
export function runFast<T>(guard: CompiledGuard, work: GuardedWork<T>): Promise<T> {
  const { breaker, counts } = guard;
  const passed = guard.pendingCalls.closed ? undefined : guard.passAtOnce(plain);
  if (passed === undefined) return new GuardRun(guard, work).start();
  if (!(passed instanceof Passed)) {
    if (passed.kind === "refused") return refuse(guard, passed);
    return new GuardRun(guard, work, undefined, undefined, undefined, passed).start();
  }
  const { slot, permit } = passed;
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

function refuse(guard: CompiledGuard, { policy, refusal }: Refused): Promise<never> {
  guard.counts.rejected += 1;
  if (guard.hears(undefined)) {
    const { reason, detail } = refusal;
    const atMs = guard.clock.now();
    const decision = { policy, verdict: "reject", enforced: true, atMs, reason, detail } as const;
    guard.decide(undefined, undefined, decision);
  }
  // A promise that is rejected before anybody can listen is taken for an unhandled one, which costs Node more than all
  // of this; one microtask later, somebody listens.
  return atOnce.then(() => {
    throw new GuardRejectedError(guard.name, refusal);
  });
}
