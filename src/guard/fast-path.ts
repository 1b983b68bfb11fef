import type { PolicyName } from "../core/decision.js";
import { startWork } from "../core/user-code.js";
import { GuardRejectedError } from "../grpc/status/guard-rejected-error.js";
import { type CompiledGuard, Passed, type Refused } from "./compiled.js";
import { endedFacts } from "./ended-run.js";
import { type GuardedWork, neverAborted } from "./options.js";
import type { GuardPassage } from "./policies.js";
import { GuardRun } from "./run.js";

/** What the policies see of a run without options and without an inbound call. */
const plain: GuardPassage = {
  key: undefined,
  priority: "normal",
  weight: 1,
  byMs: Number.POSITIVE_INFINITY,
  timed: false,
  queued: undefined,
};

/**
 * Runs work without an inbound call and without options, for a guard that is `single`: only the work itself can end
 * such a run, and the promise of the work becomes the promise of the run. Most of a {@link GuardRun} is not needed
 * then, and it would cost more than the policies themselves. A run that has to wait, or that a policy observes, becomes
 * a `GuardRun`. No clock is read, so that of these runs only refusals are kept.
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
    made = startWork(work, never);
    // Inside the `try`, because an object that only looks like a promise throws here.
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
  if (guard.listens(undefined)) {
    const { reason, detail } = refusal;
    const atMs = guard.clock.now();
    const decision = { policy, verdict: "reject", enforced: true, atMs, reason, detail } as const;
    guard.decide(undefined, decision, { ...plain, attempts: 0, ids: guard.activeIds() });
  }
  // Rejected one microtask later, when the caller listens: Node takes a promise that is rejected before that for an
  // unhandled one at first, which costs more than everything else here.
  return atOnce.then(() => {
    const error = new GuardRejectedError(guard.name, refusal);
    keep(guard, policy, error);
    throw error;
  });
}

/** Keeps a refusal. What is known of its run is in the error. */
function keep({ history, name, clock }: CompiledGuard, refusedBy: PolicyName, error: unknown) {
  if (history === undefined) return;
  const nowMs = clock.now();
  const facts = endedFacts({
    guard: name,
    priority: plain.priority,
    startedAtMs: nowMs,
    endedAtMs: nowMs,
    deadlineMs: Number.POSITIVE_INFINITY,
    failed: { error },
    refusedBy,
    degraded: false,
    attemptCount: 0,
    attempts: none,
    decisions: none,
    ids: undefined,
  });
  history.ended(facts, undefined, undefined);
}

const none: readonly never[] = [];
