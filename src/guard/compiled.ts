import { allBuiltFor, type BuiltPolicy } from "../core/control.js";
import type { Decision, DecisionEvent, PolicyName } from "../core/decision.js";
import type { Gate } from "../core/gate.js";
import { unlessOff } from "../core/options.js";
import {
  abandon,
  isQueued,
  isRefusal,
  type Outcome,
  type Permit,
  type Queued,
  type Refusal,
} from "../core/permit.js";
import type { Priority } from "../core/priority.js";
import type { Succession } from "../core/succession.js";
import { notify } from "../core/user-code.js";
import type { TraceIds } from "../grpc/context/finished-call.js";
import type { InboundCall } from "../grpc/context/inbound-call.js";
import type { Environment, PendingCalls } from "../grpc/environment.js";
import type { BreakersSnapshot } from "../policies/breaker/breakers.js";
import type { BulkheadsSnapshot } from "../policies/bulkhead/bulkhead.js";
import type { RetrySnapshot } from "../policies/retry/client-policy.js";
import { type GuardOptions, readGuardOptions, resolveGuardTimeouts } from "./options.js";
import {
  breakerAdmit,
  breakerCheck,
  GuardBreaker,
  GuardBulkhead,
  GuardFallback,
  type GuardFallbackSnapshot,
  type GuardPassage,
  GuardRetry,
} from "./policies.js";
import { GuardClock, GuardTimer } from "./timer.js";

/** How runs ended. All counts but `abandoned` only grow. */
export interface GuardCounts {
  /** Runs whose function gave an answer. */
  succeeded: number;
  /** Runs that ended with the function's error. */
  failed: number;
  /** Runs that a policy refused, that a timeout ended, or that were cancelled. */
  rejected: number;
  /** Functions that are still running after their run has ended. They keep their slots in the bulkhead. */
  abandoned: number;
}

interface Policies {
  readonly bulkhead: GuardBulkhead | undefined;
  readonly breaker: GuardBreaker | undefined;
  readonly retry: GuardRetry | undefined;
  /** Of `timeouts.totalMs`. */
  readonly timer: GuardTimer | undefined;
  /** Of `timeouts.attemptMs`. */
  readonly attemptTimer: GuardTimer | undefined;
  /** How many milliseconds before the inbound call's deadline a run ends. */
  readonly marginMs: number;
}

/** The most decisions that guards note on one inbound call: a stream may last for days. */
const maxNoted = 128;

/** One guard as its runs use it: its policies, in their order, and its counts. */
export class CompiledGuard implements Policies {
  readonly name: string;
  readonly clock: GuardClock;
  readonly pendingCalls: PendingCalls;
  /** Counts what policies in `observe` would have refused. */
  readonly observed: Environment["observed"];
  readonly bulkhead: GuardBulkhead | undefined;
  readonly breaker: GuardBreaker | undefined;
  readonly retry: GuardRetry | undefined;
  readonly timer: GuardTimer | undefined;
  readonly attemptTimer: GuardTimer | undefined;
  readonly marginMs: number;
  /** The policies that an attempt passes, in their order. See {@link passAtOnce} for the attempts that take no row. */
  readonly gates: readonly Gate<GuardPassage>[];
  /** True when a run is one attempt and the guard has no timeout, so that only the work itself ends it. */
  readonly single: boolean;
  readonly counts: GuardCounts;
  /** Told of the end of each run. Absent where nobody keeps runs. */
  readonly history: Environment["history"];
  readonly #report: Environment["report"];
  readonly #onDecision: Environment["onDecision"];
  readonly #counter: Environment["counter"];
  readonly #traces: Environment["traces"];

  constructor(
    name: string,
    clock: GuardClock,
    environment: Pick<
      Environment,
      "pendingCalls" | "observed" | "report" | "onDecision" | "counter" | "history" | "traces"
    >,
    policies: Partial<Policies>,
    counts: GuardCounts = { succeeded: 0, failed: 0, rejected: 0, abandoned: 0 },
  ) {
    this.name = name;
    this.counts = counts;
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
    this.#counter = environment.counter;
    this.#traces = environment.traces;
    this.history = environment.history;
  }

  /**
   * Asks the policies in the order of {@link gates}, if all are enforced for this run: a call of each costs a third of a
   * walk through the row. A run that gets a place in the queue takes it to the gates and waits there. `undefined`: some
   * policy observes or is off, and nothing has been asked.
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
    if (slot !== undefined) abandon(slot, true);
    return { kind: "refused", policy: "breaker", refusal: answer };
  }

  /** The span that is active now. */
  activeIds(): TraceIds | undefined {
    return this.#traces?.active();
  }

  /** Whether anybody listens to the decisions about a run. */
  listens(inbound: InboundCall | undefined): boolean {
    if (inbound !== undefined || this.#onDecision !== undefined) return true;
    return this.#counter?.idle === false;
  }

  /** Notes a decision on the inbound call, if there is any, counts it, and notifies `onDecision`. */
  decide(inbound: InboundCall | undefined, decision: Decision, run: DecidedRun): void {
    const { priority, attempts } = run;
    this.#counter?.count(decision, "guard", priority);
    if (inbound !== undefined && inbound.decisions.length < maxNoted) {
      const { detail } = decision;
      const named = detail === undefined ? this.name : `${this.name}: ${detail}`;
      inbound.note({ ...decision, detail: named });
    }
    const onDecision = this.#onDecision;
    if (onDecision === undefined) return;
    const event: DecisionEvent = {
      ...decision,
      method: this.name,
      target: "",
      side: "guard",
      epochMs: this.clock.wallNow(),
      priority,
      ...(attempts === 0 ? {} : { attempt: attempts }),
      ...run.ids,
    };
    notify(onDecision, event, this.#report, "onDecision");
  }
}

/** The run that a decision is about. */
interface DecidedRun {
  readonly priority: Priority;
  /** How many have begun. */
  readonly attempts: number;
  readonly ids: TraceIds | undefined;
}

/** The permits of an attempt that has passed the policies at once. */
export class Passed {
  /** The permit of the bulkhead. */
  readonly slot: Permit | undefined;
  /** The permit of the circuit breaker. */
  readonly permit: Permit | undefined;

  constructor(slot: Permit | undefined, permit: Permit | undefined) {
    this.slot = slot;
    this.permit = permit;
  }

  /** The attempt has an outcome. Its work may still be running, so it keeps its slot in the bulkhead. */
  answered(outcome: Outcome): void {
    this.permit?.settle(outcome);
  }

  /** The work has ended. */
  settle(outcome: Outcome): void {
    this.permit?.settle(outcome);
    this.slot?.settle(outcome);
  }
}

/** The refusal of an attempt, and the policy that refused it. */
export interface Refused {
  readonly kind: "refused";
  readonly policy: PolicyName;
  readonly refusal: Refusal;
}

/** The policies of a guard that have a mode, by name. */
export interface GuardPolicies {
  readonly retry: readonly BuiltPolicy<RetrySnapshot>[];
  readonly breaker: readonly BuiltPolicy<BreakersSnapshot>[];
  readonly bulkhead: readonly BuiltPolicy<BulkheadsSnapshot>[];
  readonly fallback: readonly BuiltPolicy<GuardFallbackSnapshot>[];
}

/** What is built from the options of a guard. */
export interface BuiltGuard<F> {
  readonly guard: CompiledGuard;
  readonly fallback: GuardFallback<F> | undefined;
  /** Runs `fallback.answer`: it has a timeout of its own and no policies. */
  readonly fallbackGuard: CompiledGuard;
  /** The policies whose modes can be changed at run time. */
  readonly policies: GuardPolicies;
}

/**
 * Carries a guard over to newer options: its policies keep what they know, its counts go on, and runs that are under way end as
 * they began.
 */
export function succeedGuard<F>(
  before: BuiltGuard<F>,
  fresh: BuiltGuard<F>,
  environment: Environment,
  succession: Succession,
): BuiltGuard<F> {
  const { name, clock, counts, bulkhead, breaker, retry } = before.guard;
  const { timer, attemptTimer, marginMs } = fresh.guard;
  const guard = new CompiledGuard(
    name,
    clock,
    environment,
    {
      bulkhead: succession.carry(bulkhead, fresh.guard.bulkhead),
      breaker: succession.carry(breaker, fresh.guard.breaker),
      retry: succession.carry(retry, fresh.guard.retry),
      timer,
      attemptTimer,
      marginMs,
    },
    counts,
  );
  const fallback = succession.carry(before.fallback, fresh.fallback);
  const { fallbackGuard } = fresh;
  return { guard, fallback, fallbackGuard, policies: policiesOf(name, guard, fallback) };
}

/**
 * @param clock That of the guard, where there is one already: its policies keep it.
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function buildGuard<F>(
  name: string,
  given: GuardOptions<F>,
  environment: Environment,
  clock = new GuardClock(environment.clock),
): BuiltGuard<F> {
  const prefix = `guard("${name}")`;
  const options = readGuardOptions(given, prefix);
  const { totalMs, attemptMs, marginMs } = resolveGuardTimeouts(options, prefix);
  const { report, random, pendingCalls, observed } = environment;
  const scope = { name, clock, random, report };
  const timer = (ms: number | undefined) =>
    ms === undefined ? undefined : new GuardTimer(clock, ms);
  const built = <O extends object, P extends object>(
    policy: "bulkhead" | "breaker" | "retry" | "fallback",
    given: O | false | undefined,
    build: (given: O, path: string) => P,
  ) => unlessOff(`${prefix}.${policy}`, given, build);

  const { bulkhead, breaker, retry, fallback } = options;
  const guard = new CompiledGuard(name, clock, environment, {
    bulkhead: built("bulkhead", bulkhead, (given, path) => new GuardBulkhead(given, scope, path)),
    breaker: built("breaker", breaker, (given, path) => new GuardBreaker(given, scope, path)),
    retry: built("retry", retry, (given, path) => new GuardRetry(given, scope, path)),
    timer: timer(totalMs),
    attemptTimer: timer(attemptMs),
    marginMs,
  });
  const answers = built(
    "fallback",
    fallback,
    (given, path) => new GuardFallback(given, scope, path),
  );
  return {
    guard,
    fallback: answers,
    // The guard itself notifies of the fallback, by one decision.
    fallbackGuard: new CompiledGuard(
      name,
      clock,
      { pendingCalls, observed, report, onDecision: undefined },
      { timer: timer(answers?.timeoutMs), marginMs },
    ),
    policies: policiesOf(name, guard, answers),
  };
}

function policiesOf<F>(
  name: string,
  { retry, breaker, bulkhead }: CompiledGuard,
  fallback: GuardFallback<F> | undefined,
): GuardPolicies {
  return {
    retry: allBuiltFor(name, [retry]),
    breaker: allBuiltFor(name, [breaker]),
    bulkhead: allBuiltFor(name, [bulkhead]),
    fallback: allBuiltFor(name, [fallback]),
  };
}
