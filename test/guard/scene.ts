import { expect } from "vitest";
import type { ControlledPolicy } from "../../src/core/control.js";
import type { DecisionEvent, PolicyName } from "../../src/core/decision.js";
import { environmentOf } from "../../src/grpc/environment.js";
import { type Guard, Guards } from "../../src/guard/guard.js";
import type { GuardOptions } from "../../src/guard/options.js";
import { seededRandom } from "../../src/testing/clock/seeded-random.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";

interface Numbers {
  readonly db?: unknown;
  readonly breakers?: { readonly db?: unknown };
  readonly bulkheads?: { readonly db?: unknown };
}

/** A guard under a virtual clock. */
export function guarded<F = never>(options: GuardOptions<F> = {}) {
  const clock = new VirtualClock();
  const decisions: DecisionEvent[] = [];
  const errors: unknown[] = [];
  const environment = environmentOf(
    {
      clock,
      random: seededRandom(1),
      onDecision: (decision) => decisions.push(decision),
      onError: (error) => errors.push(error),
    },
    "test",
  );
  const policies = new Map<PolicyName, ControlledPolicy>();
  const guards = new Guards(
    environment,
    (built) => {
      for (const name of ["retry", "breaker", "bulkhead", "fallback"] as const) {
        for (const { policy } of built[name]) policies.set(name, policy);
      }
    },
    undefined,
  );
  const guard: Guard<F> = guards.get("db", options);
  return {
    clock,
    decisions,
    errors,
    guards,
    guard,
    policies,
    environment,
    /** What a policy says of itself, under the name of the guard. */
    numbers: (policy: PolicyName): unknown => {
      const snapshot = policies.get(policy)?.snapshot() as Numbers;
      return (snapshot.breakers ?? snapshot.bulkheads ?? snapshot).db ?? snapshot;
    },
    /** Nothing is left behind: no timer, no wait. */
    expectQuiet: async () => {
      await clock.pass(0);
      expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
      expect(environment.pendingCalls.size).toBe(0);
    },
  };
}

/** Work that settles when it is told to. */
export function deferred<T = string>() {
  let resolve: (value: T) => void = () => {};
  let reject: (error: unknown) => void = () => {};
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

/** How a run ended, as a promise that does not reject. */
export function ending(run: Promise<unknown>): Promise<unknown> {
  return run.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
}

/** What a run rejects with; one that does not is an error of the test. */
export function rejected(run: Promise<unknown>): Promise<unknown> {
  return run.then(
    () => {
      throw new Error("the run was fulfilled");
    },
    (error: unknown) => error,
  );
}
