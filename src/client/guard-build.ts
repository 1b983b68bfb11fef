import type { PolicyName } from "../core/decision.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import type { Surroundings } from "../grpc/surroundings.js";
import { GuardClock } from "./guard-clock.js";
import { GuardFallback } from "./guard-fallback.js";
import { type GuardOptions, readGuardOptions, resolveGuardTimeouts } from "./guard-options.js";
import { GuardPlan } from "./guard-plan.js";
import { GuardBreaker, GuardBulkhead } from "./guard-policies.js";
import { GuardRetry } from "./guard-retry.js";
import { GuardTimer } from "./guard-timer.js";

/** What a guard works with. */
export interface BuiltGuard<F> {
  readonly plan: GuardPlan;
  readonly fallback: GuardFallback<F> | undefined;
  /** For the work of the fallback: a time-out of its own, and no policy. */
  readonly fallbackPlan: GuardPlan;
  /** All policies, for the hand that controls them. */
  readonly policies: readonly { readonly name: PolicyName; readonly policy: ControlledPolicy }[];
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function buildGuard<F>(
  name: string,
  given: GuardOptions<F>,
  surroundings: Surroundings,
): BuiltGuard<F> {
  const prefix = `guard("${name}")`;
  const options = readGuardOptions(given, prefix);
  const { timeoutMs, attemptTimeoutMs, marginMs } = resolveGuardTimeouts(options, prefix);
  const { report, random, room, observed } = surroundings;
  const clock = new GuardClock(surroundings.clock);
  const scope = { name, clock, random, report };
  const timer = (ms: number | undefined) =>
    ms === undefined ? undefined : new GuardTimer(clock, ms);
  const built = <O extends object, P>(
    policy: "bulkhead" | "breaker" | "retry" | "fallback",
    given: O | false | undefined,
    build: (given: O, path: string) => P,
  ): P | undefined =>
    given === undefined || given === false ? undefined : build(given, `${prefix}.${policy}`);

  const { bulkhead, breaker, retry, fallback } = options;
  const plan = new GuardPlan(name, clock, surroundings, {
    bulkhead: built("bulkhead", bulkhead, (given, path) => new GuardBulkhead(given, scope, path)),
    breaker: built("breaker", breaker, (given, path) => new GuardBreaker(given, scope, path)),
    retry: built("retry", retry, (given, path) => new GuardRetry(given, scope, path)),
    timer: timer(timeoutMs),
    attemptTimer: timer(attemptTimeoutMs),
    marginMs,
  });
  const answers = built(
    "fallback",
    fallback,
    (given, path) => new GuardFallback(given, scope, path),
  );
  const named = [
    { name: "retry", policy: plan.retry },
    { name: "breaker", policy: plan.breaker },
    { name: "bulkhead", policy: plan.bulkhead },
    { name: "fallback", policy: answers },
  ] as const;
  return {
    plan,
    fallback: answers,
    // What becomes of it is told by the guard, as one decision.
    fallbackPlan: new GuardPlan(
      name,
      clock,
      { room, observed, report, onDecision: undefined },
      { timer: timer(answers?.timeoutMs), marginMs },
    ),
    policies: named.flatMap(({ name: policyName, policy }) =>
      policy === undefined ? [] : [{ name: policyName, policy }],
    ),
  };
}
