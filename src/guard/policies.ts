import type { Clock, Random } from "../core/clock.js";
import { type ControlledPolicy, type Mode, modes } from "../core/control.js";
import type { Gate } from "../core/gate.js";
import type { Gauges } from "../core/gauges.js";
import { boundedKey, Keyed } from "../core/keyed.js";
import {
  durationMs,
  InvalidOptionError,
  oneOf,
  optionalFunction,
  readOptions,
} from "../core/options.js";
import { OptionsCopy } from "../core/options-copy.js";
import {
  type GateAnswer,
  isQueued,
  isRefusal,
  type OnGranted,
  type Outcome,
  type Permit,
  type Queued,
  type WaitResult,
} from "../core/permit.js";
import { type Priority, priorityRank } from "../core/priority.js";
import { LatencyQuantile } from "../core/stats/latency-quantile.js";
import { statusCode } from "../core/status.js";
import { answerOf, ask, type ReportError, yesOrNo } from "../core/user-code.js";
import { rejectionOf } from "../grpc/status/rejection.js";
import type { BreakerCall, BreakerRefusal } from "../policies/breaker/breaker.js";
import { BreakerSet } from "../policies/breaker/breakers.js";
import { resolveBreakerOptions } from "../policies/breaker/options.js";
import {
  Bulkhead,
  type BulkheadsSnapshot,
  type ResolvedBulkheadOptions,
  resolveBulkheadOptions,
} from "../policies/bulkhead/bulkhead.js";
import { RetryBudget } from "../policies/retry/budget.js";
import type { RetrySnapshot } from "../policies/retry/client-policy.js";
import { type ResolvedRetryOptions, resolveRetryOptions } from "../policies/retry/options.js";
import { type FailedAttempt, RetryRules } from "../policies/retry/rules.js";
import {
  type GuardBreakerOptions,
  type GuardBulkheadOptions,
  type GuardedWork,
  type GuardFallbackOptions,
  type GuardRetryOptions,
  neverAborted,
} from "./options.js";
import { queueClock } from "./timer.js";

/** What the policies see of a run that wants to begin an attempt. */
export interface GuardPassage {
  readonly key: string | undefined;
  readonly priority: Priority;
  /** How many slots of the bulkhead the run takes. */
  readonly weight: number;
  /** By when the run must end, on the monotonic clock; `Infinity` for any time. */
  readonly byMs: number;
  /** Whether the run has a timer of its own that ends it at `byMs`. */
  readonly timed: boolean;
  /** The place in the bulkhead's queue that the run already has from `passAtOnce`. */
  readonly queued: Queued | undefined;
}

/** What the policies of one guard share. */
export interface GuardScope {
  /** The name of the guard. */
  readonly name: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly report: ReportError;
}

/** The number of keys whose state is kept, those used last. */
const maxKeys = 1_000;

/** The name under which the state of a key is kept and shown: for runs without a key, the name of the guard. */
function stateName(name: string, key: string | undefined): string {
  return key === undefined ? name : `${name} ${boundedKey(key)}`;
}

/** Bulkheads by key. A run keeps its slot until its work has settled, even if the run itself has ended before. */
export class GuardBulkhead implements ControlledPolicy, Gate<GuardPassage> {
  readonly policy = "bulkhead";
  readonly untilEnd = true;
  mode: Mode;
  readonly #name: string;
  #options: ResolvedBulkheadOptions;
  readonly #bulkheads: Keyed<Bulkhead>;
  /** Receives the result of the next run that has to wait. Most runs need not wait, so it is made ahead and reused. */
  #next = new Wait();

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(options: GuardBulkheadOptions, scope: GuardScope, prefix: string) {
    const { mode, rest } = takeMode(options, prefix);
    const resolved = resolveBulkheadOptions(rest, prefix, ["mode"]);
    this.mode = mode;
    this.#name = scope.name;
    this.#options = resolved;
    const clock = queueClock(scope.clock, resolved.maxWaitMs);
    const make = () => new Bulkhead(this.#options, clock, scope.report);
    this.#bulkheads = new Keyed(make, maxKeys, ({ inUse }) => inUse);
  }

  reconfigure(fresh: GuardBulkhead): void {
    this.#options = fresh.#options;
    for (const [, bulkhead] of this.#bulkheads.entries()) bulkhead.reconfigure(fresh.#options);
  }

  modeFor({ queued }: GuardPassage): Mode {
    // A run that has its place waits for its slot, whatever the mode has become since.
    return queued === undefined ? this.mode : "enforce";
  }

  enter(run: GuardPassage, onGranted: OnGranted): GateAnswer {
    const answer = run.queued ?? this.ask(run);
    if (!isQueued(answer)) return answer;
    const wait = this.#next;
    this.#next = new Wait();
    // The callback does not throw, and the promise does not reject.
    void wait.ended().then(({ result, waitedMs }) => {
      if (result === undefined) return;
      // The run's own timer is due at the same moment, and ends the run with the reason of its timeout.
      const expires = run.timed && isRefusal(result) && result.reason === "DEADLINE_EXPIRED";
      if (!expires) onGranted(result, waitedMs);
    });
    return answer;
  }

  /** Asks for slots. A run that is queued must pass its place to {@link enter} before another run asks. */
  ask({ key, priority, byMs, weight }: GuardPassage): GateAnswer {
    const bulkhead = this.#bulkheads.get(stateName(this.#name, key));
    return bulkhead.enter(priorityRank[priority], byMs, this.#next.onGranted, weight);
  }

  measure(gauges: Gauges): void {
    for (const [key, bulkhead] of this.#bulkheads.entries()) {
      bulkhead.measure(gauges, "guard", { key, pool: "calls" });
    }
  }

  snapshot(): BulkheadsSnapshot {
    const entries = [...this.#bulkheads.entries()];
    const numbers = entries.map(([key, bulkhead]) => [key, bulkhead.snapshot()] as const);
    return { bulkheads: Object.fromEntries(numbers) };
  }
}

/** Receives how the wait of one run ends. */
class Wait {
  result: WaitResult | undefined;
  waitedMs = 0;
  #resolve: ((ended: Wait) => void) | undefined;

  readonly onGranted: OnGranted = (result, waitedMs) => {
    this.result = result;
    this.waitedMs = waitedMs;
    this.#resolve?.(this);
  };

  /**
   * The end of the wait as a promise, so that the run goes on in its own async context: the bulkhead grants a slot in the
   * context of the run that gave it back.
   */
  ended(): Promise<Wait> {
    return new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }
}

const ordinary: BreakerCall = { timed: true, critical: false };
const critical: BreakerCall = { timed: true, critical: true };

/** The usual duration of a success is the median of the last 5 minutes, and needs 20 successes, as for calls. */
const usual = { windowMs: 300_000, minSamples: 20 } as const;

/** Circuit breakers by key. */
export class GuardBreaker extends BreakerSet {
  readonly #name: string;
  #countError: GuardBreakerOptions["countError"];
  readonly #report: ReportError;
  /** How long successful attempts took that had the deadline of an inbound call. */
  readonly #usual: Keyed<LatencyQuantile>;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(options: GuardBreakerOptions, scope: GuardScope, prefix: string) {
    const { mode, rest } = takeMode(options, prefix);
    const { countError, ...own } = rest;
    optionalFunction(`${prefix}.countError`, countError);
    const { clock, random, report } = scope;
    super(resolveBreakerOptions(own, prefix, ["mode", "countError"]), {
      mode,
      maxKeys,
      clock,
      random,
      report,
    });
    this.#name = scope.name;
    this.#countError = countError;
    this.#report = report;
    this.#usual = new Keyed(() => new LatencyQuantile(usual, clock), maxKeys);
  }

  override reconfigure(fresh: GuardBreaker): void {
    super.reconfigure(fresh);
    this.#countError = fresh.#countError;
  }

  modeFor(key: string | undefined): Mode {
    return this.overridden ? this.modeOf(stateName(this.#name, key)) : this.mode;
  }

  check(key: string | undefined): BreakerRefusal | undefined {
    return this.for(stateName(this.#name, key)).check();
  }

  acquire(key: string | undefined, isCritical: boolean): Permit | BreakerRefusal {
    const breaker = this.for(stateName(this.#name, key));
    return breaker.acquire(isCritical ? critical : ordinary);
  }

  /** An attempt with the deadline of an inbound call succeeded after `tookMs` milliseconds. */
  succeededIn(key: string | undefined, tookMs: number): void {
    this.#usual.get(stateName(this.#name, key)).record(tookMs);
  }

  /** The median duration of successes in milliseconds; `undefined` while fewer than 20 are known. */
  usualMs(key: string | undefined): number | undefined {
    return this.#usual.get(stateName(this.#name, key)).quantile(0.5);
  }

  /**
   * How an attempt counts that ended with the deadline of the inbound call, after `hadMs` milliseconds. It is a failure
   * if half of the successes take less time than it had. Otherwise, and while that is not known, the deadline was too
   * short, which says nothing about the dependency.
   */
  outcomeOfDeadline(key: string | undefined, hadMs: number): Outcome {
    const usualMs = this.#usual.get(stateName(this.#name, key)).quantile(0.5);
    return usualMs === undefined || hadMs < usualMs ? "ignored" : "failure";
  }

  /** How an attempt counts that ended with this error. */
  outcomeOf(error: unknown): Outcome {
    const countError = this.#countError;
    if (countError === undefined) {
      // A cancellation, and a refusal by a policy of this process, say nothing about the dependency.
      return isAbort(error) || refusedHere(error) ? "ignored" : "failure";
    }
    const where = "guard.breaker.countError";
    const counts = ask(() => countError(error), yesOrNo, true, this.#report, where);
    return counts ? "failure" : "success";
  }
}

/** Asks before the queue whether the circuit breaker is open, so that no run waits in vain. It takes no permit. */
export function breakerCheck(breaker: GuardBreaker, bulkhead: GuardBulkhead): Gate<GuardPassage> {
  return {
    policy: "breaker",
    modeFor: ({ key, queued }) =>
      queued === undefined && bulkhead.mode === "enforce" && breaker.modeFor(key) === "enforce"
        ? "enforce"
        : "off",
    enter: ({ key }) => breaker.check(key),
  };
}

/** Takes the permit behind the queue, so that the wait there counts neither as slowness nor as an expired probe. */
export function breakerAdmit(breaker: GuardBreaker): Gate<GuardPassage> {
  return {
    policy: "breaker",
    modeFor: ({ key }) => breaker.modeFor(key),
    enter: ({ key, priority }) => breaker.acquire(key, priority === "critical"),
  };
}

const retryOptionNames = [
  "mode",
  "maxAttempts",
  "backoff",
  "retryError",
  "maxDepth",
  "budget",
] as const satisfies readonly (keyof GuardRetryOptions)[];

/** Retries of guarded work: the rules and budgets of calls, applied to errors in place of statuses. */
export class GuardRetry implements ControlledPolicy {
  mode: Mode;
  /** How often each decision was taken, in `observe` too. Both only grow. */
  readonly counts = { retried: 0, stopped: 0 };
  budget: RetryBudget | undefined;
  readonly #name: string;
  #options: ResolvedRetryOptions;
  readonly #random: Random;
  readonly #report: ReportError;
  #retryError: GuardRetryOptions["retryError"];

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(given: GuardRetryOptions, scope: GuardScope, prefix: string) {
    const options = readOptions(prefix, given, retryOptionNames);
    const { mode, rest } = takeMode(options, prefix);
    const { retryError, ...own } = rest;
    this.mode = mode;
    // Whoever configures retries states by that that the work may run twice.
    this.#options = resolveRetryOptions({ ...own, idempotent: true }, prefix);
    this.#retryError = optionalFunction(`${prefix}.retryError`, retryError);
    const { budget } = this.#options;
    this.budget =
      budget === undefined
        ? undefined
        : new RetryBudget(budget, scope.clock, `guard ${scope.name}`);
    this.#name = scope.name;
    this.#random = scope.random;
    this.#report = scope.report;
  }

  /** A budget whose numbers are others begins anew. */
  reconfigure(fresh: GuardRetry): void {
    const budgetBefore = new OptionsCopy(this.#options.budget);
    this.#options = fresh.#options;
    this.#retryError = fresh.#retryError;
    if (!budgetBefore.matches(fresh.#options.budget)) this.budget = fresh.budget;
  }

  /** The rules for one run. */
  rules(): RetryRules {
    return new RetryRules(this.#options, this.#random);
  }

  /** Describes a failed attempt to the rules. */
  judge(
    error: unknown,
    run: {
      readonly attempts: number;
      readonly remainingMs: number;
      readonly usualMs: number | undefined;
      readonly depth: number;
    },
  ): FailedAttempt {
    const local = refusedHere(error);
    return {
      ...run,
      code: statusCode.unavailable,
      origin: local ? "local-policy" : "remote",
      wanted: !local && this.#wanted(error),
      idempotent: true,
      trailersOnly: true,
      handlerNotRun: false,
      pushback: undefined,
      retryInfoMs: rejectionOf(error)?.retryAfterMs,
      replayable: true,
    };
  }

  measure(gauges: Gauges): void {
    this.budget?.measure(gauges, { side: "guard", guard: this.#name });
  }

  snapshot(): RetrySnapshot {
    const { budget, counts } = this;
    return { ...counts, budgets: budget === undefined ? {} : { [this.#name]: budget.snapshot() } };
  }

  #wanted(error: unknown): boolean {
    const retryError = this.#retryError;
    if (retryError === undefined) return !isAbort(error);
    return ask(() => retryError(error), yesOrNo, false, this.#report, "guard.retry.retryError");
  }
}

/** Numbers of the fallback of a guard: those that the fallback of a client has too. */
export interface GuardFallbackSnapshot {
  readonly providers: Readonly<Record<string, never>>;
  readonly answered: number;
  readonly unanswered: number;
}

/** Answers in place of work that has failed. */
export class GuardFallback<F> implements ControlledPolicy {
  mode: Mode;
  timeoutMs: number;
  /** How often it was asked and gave an answer, or gave none. Both only grow. */
  readonly counts = { answered: 0, unanswered: 0 };
  #options: GuardFallbackOptions<F>;
  readonly #scope: GuardScope;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(its: GuardFallbackOptions<F>, scope: GuardScope, prefix: string) {
    const options = readOptions(prefix, its, ["mode", "timeoutMs", "when", "answer", "value"]);
    const { mode, rest } = takeMode(options, prefix);
    this.mode = mode;
    this.timeoutMs = durationMs(`${prefix}.timeoutMs`, rest.timeoutMs ?? 1_000, 1);
    optionalFunction(`${prefix}.when`, rest.when);
    optionalFunction(`${prefix}.answer`, rest.answer);
    if ((rest.answer === undefined) === !("value" in options)) {
      throw new InvalidOptionError(`${prefix}`, "with an answer or a value, and not both", options);
    }
    this.#options = options;
    this.#scope = scope;
  }

  reconfigure(fresh: GuardFallback<F>): void {
    this.timeoutMs = fresh.timeoutMs;
    this.#options = fresh.#options;
  }

  /** Whether it answers to this error. */
  wants(error: unknown): boolean {
    const { when } = this.#options;
    if (when === undefined) return true;
    return ask(() => when(error), yesOrNo, false, this.#scope.report, "guard.fallback.when");
  }

  /** The work that answers to an error. */
  answerTo(error: unknown): GuardedWork<F> {
    const { answer, value } = this.#options;
    if (answer === undefined) return () => value;
    // A signal is made only for functions that declare one.
    return answer.length < 2
      ? () => answerOf(() => answer(error, neverAborted))
      : (signal) => answerOf(() => answer(error, signal));
  }

  /** It has no providers but itself. */
  snapshot(): GuardFallbackSnapshot {
    return { providers: {}, ...this.counts };
  }
}

/** Whether a function ended because it was cancelled. Then it says nothing about the dependency. */
function isAbort(error: unknown): boolean {
  try {
    // By name and not by class: errors from another realm, such as a vm context or a test environment, have another
    // class.
    if (typeof error !== "object" || error === null) return false;
    const { name }: { readonly name?: unknown } = error;
    return name === "AbortError";
  } catch {
    // Its `name` throws.
    return false;
  }
}

/**
 * Whether a policy of this process refused a call or a guarded run that the work made. Timeouts do not count as
 * refusals.
 */
function refusedHere(error: unknown): boolean {
  const rejection = rejectionOf(error);
  return rejection?.local === true && !timeouts.has(rejection.reason);
}

const timeouts: ReadonlySet<string> = new Set([
  "WORK_TIMEOUT",
  "ATTEMPT_TIMEOUT",
  "CONNECTION_TIMEOUT",
  "FIRST_RESPONSE_TIMEOUT",
  "IDLE_TIMEOUT",
  "DEADLINE_EXCEEDED",
]);

/** Splits off the mode, so that the policy can check the options that are left. */
function takeMode<O extends { readonly mode?: Mode }>(
  given: O,
  prefix: string,
): { readonly mode: Mode; readonly rest: Omit<O, "mode"> } {
  const options = readOptions(prefix, given);
  const { mode = "enforce", ...rest } = options;
  return { mode: oneOf(`${prefix}.mode`, mode, modes), rest };
}
