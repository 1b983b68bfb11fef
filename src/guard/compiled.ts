import type { ControlledPolicy } from "../core/control.js";
import type { Decision, PolicyName } from "../core/decision.js";
import type { Gate } from "../core/gate.js";
import {
  isQueued,
  isRefusal,
  type Outcome,
  type Permit,
  type Queued,
  type Refusal,
} from "../core/permit.js";
import { notify } from "../core/user-code.js";
import type { InboundCall } from "../grpc/context/inbound-call.js";
import type { Environment, PendingCalls } from "../grpc/environment.js";
import { type GuardOptions, readGuardOptions, resolveGuardTimeouts } from "./options.js";
import {
  breakerAdmit,
  breakerCheck,
  GuardBreaker,
  GuardBulkhead,
  GuardFallback,
  type GuardPassage,
  GuardRetry,
} from "./policies.js";
import { GuardClock, GuardTimer } from "./timer.js";

/** What became of runs. All but `abandoned` only grow. */
export interface GuardCounts {
  /** Runs that the function had an answer for. */
  succeeded: number;
  /** Runs that ended with the function's error. */
  failed: number;
  /** Runs that a policy refused or a time-out ended, or that were cancelled. */
  rejected: number;
  /** Functions that still run, though their run has given up on them. They hold their slots in the bulkhead. */
  abandoned: number;
}

interface Policies {
  readonly bulkhead: GuardBulkhead | undefined;
  readonly breaker: GuardBreaker | undefined;
  readonly retry: GuardRetry | undefined;
  /** For whole runs. */
  readonly timer: GuardTimer | undefined;
  readonly attemptTimer: GuardTimer | undefined;
  /** How much earlier than the inbound call's deadline a run ends, in milliseconds. */
  readonly marginMs: number;
}

/** An inbound call keeps so many decisions at most: a stream may last for days. */
const maxNoted = 128;

/** The policies and numbers of one guard, as its runs use them. */
export class CompiledGuard implements Policies {
  readonly name: string;
  readonly clock: GuardClock;
  readonly pendingCalls: PendingCalls;
  /** Where it is noted what observed policies would have refused. */
  readonly observed: Environment["observed"];
  readonly bulkhead: GuardBulkhead | undefined;
  readonly breaker: GuardBreaker | undefined;
  readonly retry: GuardRetry | undefined;
  readonly timer: GuardTimer | undefined;
  readonly attemptTimer: GuardTimer | undefined;
  readonly marginMs: number;
  /** What an attempt passes, in this order, that may have to wait or that a policy observes. */
  readonly gates: readonly Gate<GuardPassage>[];
  /** A run is one attempt, and nothing but its work ends it. */
  readonly single: boolean;
  readonly counts: GuardCounts = { succeeded: 0, failed: 0, rejected: 0, abandoned: 0 };
  readonly #report: Environment["report"];
  readonly #onDecision: Environment["onDecision"];

  constructor(
    name: string,
    clock: GuardClock,
    environment: Pick<Environment, "pendingCalls" | "observed" | "report" | "onDecision">,
    policies: Partial<Policies>,
  ) {
    this.name = name;
    this.clock = clock;
    this.pendingCalls = environment.pendingCalls;
    this.observed = environment.observed;
    const { bulkhead, breaker } = policies;
    this.bulkhead = bulkhead;
    this.breaker = breaker;
    this.retry = policies.retry;
    this.timer = policies.timer;
    this.attemptTimer = policies.attemptTimer;
    this.marginMs = policies.marginMs ?? 0;
    this.gates = [
      ...(breaker === undefined || bulkhead === undefined ? [] : [breakerCheck(breaker, bulkhead)]),
      ...(bulkhead === undefined ? [] : [bulkhead]),
      ...(breaker === undefined ? [] : [breakerAdmit(breaker)]),
    ];
    this.single = (this.retry ?? this.timer ?? this.attemptTimer) === undefined;
    this.#report = environment.report;
    this.#onDecision = environment.onDecision;
  }

  /**
   * Asks the policies in the order of {@link gates} where all are enforced, which costs a third of that row. A run that
   * has to wait takes its slot in the queue to the gates. `undefined`: some policy observes or is off.
   */
  passAtOnce(run: GuardPassage): Passed | Refused | Queued | undefined {
    const { bulkhead, breaker } = this;
    const { key } = run;
    if (bulkhead !== undefined && bulkhead.mode !== "enforce") return undefined;
    if (breaker !== undefined && breaker.modeFor(key) !== "enforce") return undefined;
    let slot: Permit | undefined;
    if (bulkhead !== undefined) {
      const open = breaker?.check(key);
      if (open !== undefined) return { kind: "refused", policy: "breaker", refusal: open };
      const answer = bulkhead.ask(run);
      if (isQueued(answer)) return answer;
      if (isRefusal(answer)) return { kind: "refused", policy: "bulkhead", refusal: answer };
      slot = answer;
    }
    const answer = breaker?.acquire(key, run.priority === "critical");
    if (answer === undefined || !isRefusal(answer)) return new Passed(slot, answer);
    slot?.settle("ignored");
    return { kind: "refused", policy: "breaker", refusal: answer };
  }

  /** Somebody wants to know of the decisions on a run. */
  hears(inbound: InboundCall | undefined): boolean {
    return inbound !== undefined || this.#onDecision !== undefined;
  }

  /** Notes a decision where it is wanted, and notifies the observer. */
  decide(
    notes: Decision[] | undefined,
    inbound: InboundCall | undefined,
    decision: Decision,
  ): void {
    notes?.push(decision);
    if (inbound !== undefined && inbound.decisions.length < maxNoted) {
      const { detail } = decision;
      const named = detail === undefined ? this.name : `${this.name}: ${detail}`;
      inbound.decisions.push({ ...decision, detail: named });
    }
    const onDecision = this.#onDecision;
    if (onDecision === undefined) return;
    const event = { ...decision, method: this.name, target: "", side: "guard" } as const;
    notify(onDecision, event, this.#report, "onDecision");
  }
}

/** What an attempt holds that has passed the policies at once. */
export class Passed {
  /** Of the bulkhead. */
  readonly slot: Permit | undefined;
  /** Of the breaker. */
  readonly permit: Permit | undefined;

  constructor(slot: Permit | undefined, permit: Permit | undefined) {
    this.slot = slot;
    this.permit = permit;
  }

  /** The attempt has an outcome, and its work may go on: it keeps its slot in the bulkhead. */
  answered(outcome: Outcome): void {
    this.permit?.settle(outcome);
  }

  settle(outcome: Outcome): void {
    this.permit?.settle(outcome);
    this.slot?.settle(outcome);
  }
}

/** A policy does not let an attempt through. */
export interface Refused {
  readonly kind: "refused";
  readonly policy: PolicyName;
  readonly refusal: Refusal;
}

/** What the options of a guard come to. */
export interface BuiltGuard<F> {
  readonly guard: CompiledGuard;
  readonly fallback: GuardFallback<F> | undefined;
  /** For the work of the fallback: a time-out of its own, and no policy. */
  readonly fallbackGuard: CompiledGuard;
  /** All policies, to be controlled at run time. */
  readonly policies: readonly { readonly name: PolicyName; readonly policy: ControlledPolicy }[];
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function buildGuard<F>(
  name: string,
  given: GuardOptions<F>,
  environment: Environment,
): BuiltGuard<F> {
  const prefix = `guard("${name}")`;
  const options = readGuardOptions(given, prefix);
  const { timeoutMs, attemptTimeoutMs, marginMs } = resolveGuardTimeouts(options, prefix);
  const { report, random, pendingCalls, observed } = environment;
  const clock = new GuardClock(environment.clock);
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
  const guard = new CompiledGuard(name, clock, environment, {
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
    { name: "retry", policy: guard.retry },
    { name: "breaker", policy: guard.breaker },
    { name: "bulkhead", policy: guard.bulkhead },
    { name: "fallback", policy: answers },
  ] as const;
  return {
    guard,
    fallback: answers,
    // What becomes of it is told by the guard, as one decision.
    fallbackGuard: new CompiledGuard(
      name,
      clock,
      { pendingCalls, observed, report, onDecision: undefined },
      { timer: timer(answers?.timeoutMs), marginMs },
    ),
    policies: named.flatMap(({ name: policyName, policy }) =>
      policy === undefined ? [] : [{ name: policyName, policy }],
    ),
  };
}
