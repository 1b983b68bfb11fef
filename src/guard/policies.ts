import type { Clock, Random } from "../core/clock.js";
import { type ControlledPolicy, type Mode, modes } from "../core/control.js";
import type { Gate } from "../core/gate.js";
import { boundedKey, Keyed } from "../core/keyed.js";
import {
  durationMs,
  InvalidOptionError,
  oneOf,
  optionalFunction,
  readOptions,
} from "../core/options.js";
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
import { ask, given, type ReportError, yesOrNo } from "../core/user-code.js";
import { rejectionOf } from "../grpc/status/rejection.js";
import type { BreakerCall, BreakerRefusal } from "../policies/breaker/breaker.js";
import { BreakerSet } from "../policies/breaker/breakers.js";
import { resolveBreakerOptions } from "../policies/breaker/options.js";
import {
  Bulkhead,
  type BulkheadSnapshot,
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
import { QueueClock } from "./timer.js";

/** What the policies see of a run that asks for an attempt. */
export interface GuardPassage {
  readonly key: string | undefined;
  readonly priority: Priority;
  /** How many slots of the bulkhead it takes. */
  readonly weight: number;
  /** By when the run must end, on the monotonic clock; `Infinity` for any time. */
  readonly byMs: number;
  /** A timer of its own ends the run by then. */
  readonly timed: boolean;
  /** The slot in the queue that it has already, from the fast path. */
  readonly queued: Queued | undefined;
}

/** What the policies of one guard have in common. */
export interface GuardScope {
  /** The guard's name. */
  readonly name: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly report: ReportError;
}

/** State is kept for so many keys. */
const maxKeys = 1_000;

/** The name of the state of a key: that of the guard for runs without one. */
function stateName(name: string, key: string | undefined): string {
  return key === undefined ? name : `${name} ${boundedKey(key)}`;
}

/** Bulkheads by key. A run keeps its slot until its work has settled, also where the run has ended before that. */
export class GuardBulkhead implements ControlledPolicy, Gate<GuardPassage> {
  readonly policy = "bulkhead";
  readonly untilEnd = true;
  mode: Mode;
  readonly #name: string;
  readonly #bulkheads: Keyed<Bulkhead>;
  /** For the next run that has to wait. Most need not, and making one for each costs. */
  #next = new Grant();

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(options: GuardBulkheadOptions, scope: GuardScope, prefix: string) {
    const { mode, rest } = takeMode(options, prefix);
    const resolved = resolveBulkheadOptions(rest, prefix, ["mode"]);
    this.mode = mode;
    this.#name = scope.name;
    const clock = new QueueClock(scope.clock, resolved.maxWaitMs);
    const make = () => new Bulkhead(resolved, clock, scope.report);
    this.#bulkheads = new Keyed(make, maxKeys, ({ inUse }) => inUse);
  }

  modeFor(): Mode {
    return this.mode;
  }

  enter(run: GuardPassage, onGranted: OnGranted): GateAnswer {
    const entry = run.queued ?? this.ask(run);
    if (!isQueued(entry)) return entry;
    const grant = this.#next;
    this.#next = new Grant();
    // Nothing in it throws or rejects.
    void grant.come().then(({ turn, waitedMs }) => {
      if (turn === undefined) return;
      // The timer of the run is due at the same time as such a wait, and it is the one to say so.
      const dueAnyway = run.timed && isRefusal(turn) && turn.reason === "DEADLINE_EXPIRED";
      if (!dueAnyway) onGranted(turn, waitedMs);
    });
    return entry;
  }

  /** Asks for slots. Who has to wait hands the answer in with {@link enter}, before anybody else asks. */
  ask({ key, priority, byMs, weight }: GuardPassage): GateAnswer {
    const bulkhead = this.#bulkheads.get(stateName(this.#name, key));
    return bulkhead.enter(priorityRank[priority], byMs, this.#next.onGranted, weight);
  }

  snapshot(): Readonly<Record<string, BulkheadSnapshot>> {
    const entries = [...this.#bulkheads.entries()];
    return Object.fromEntries(entries.map(([key, bulkhead]) => [key, bulkhead.snapshot()]));
  }
}

/** What a bulkhead tells the end of a wait. It is made before anybody knows whether there will be a wait. */
class Grant {
  turn: WaitResult | undefined;
  waitedMs = 0;
  #tell: ((grant: Grant) => void) | undefined;

  readonly onGranted: OnGranted = (turn, waitedMs) => {
    this.turn = turn;
    this.waitedMs = waitedMs;
    this.#tell?.(this);
  };

  /**
   * The end of the wait as a promise, which carries the async context of who asks: a bulkhead grants a slot in the
   * context of whoever left it.
   */
  come(): Promise<Grant> {
    return new Promise((resolve) => {
      this.#tell = resolve;
    });
  }
}

const ordinary: BreakerCall = { timed: true, critical: false };
const critical: BreakerCall = { timed: true, critical: true };

/** How far back the usual time of a success is learned from, and from how many at least, as for calls. */
const usual = { windowMs: 300_000, minSamples: 20 } as const;

/** Breakers by key. */
export class GuardBreaker extends BreakerSet {
  readonly #name: string;
  readonly #countError: GuardBreakerOptions["countError"];
  readonly #report: ReportError;
  /** How long successes take, of attempts that a caller's deadline may end. */
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

  /** An attempt succeeded that a caller's deadline could have ended. */
  succeededIn(key: string | undefined, tookMs: number): void {
    this.#usual.get(stateName(this.#name, key)).record(tookMs);
  }

  /** What half of the successes take at least, where that is known. */
  usualMs(key: string | undefined): number | undefined {
    return this.#usual.get(stateName(this.#name, key)).quantile(0.5);
  }

  /**
   * How an attempt counts that a caller's deadline ended: half of the successes may take longer than it had. While that is
   * not known, it is the caller's affair.
   */
  outcomeOfDeadline(key: string | undefined, hadMs: number): Outcome {
    const usualMs = this.#usual.get(stateName(this.#name, key)).quantile(0.5);
    return usualMs === undefined || hadMs < usualMs ? "ignored" : "failure";
  }

  /** How an attempt counts that failed with this error. */
  outcomeOf(error: unknown): Outcome {
    const countError = this.#countError;
    if (countError === undefined) {
      // Whoever called it off, and what a policy of this process refused below, says nothing of the dependency.
      return isAbort(error) || refusedHere(error) ? "ignored" : "failure";
    }
    const where = "guard.breaker.countError";
    const counts = ask(() => countError(error), yesOrNo, true, this.#report, where);
    return counts ? "failure" : "success";
  }
}

/** The cheap question before the queue: who would be refused behind it need not stand in it. It takes nothing. */
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

/** Behind the queue, so that waiting there is neither slowness nor an expired probe. */
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

/** Extra attempts of guarded work: the rules and budgets of calls, with a judgement of errors instead of statuses. */
export class GuardRetry implements ControlledPolicy {
  mode: Mode;
  /** How often each decision was taken, observed ones included. */
  readonly counts = { retried: 0, stopped: 0 };
  readonly budget: RetryBudget | undefined;
  readonly #name: string;
  readonly #options: ResolvedRetryOptions;
  readonly #random: Random;
  readonly #report: ReportError;
  readonly #retryError: GuardRetryOptions["retryError"];

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(given: GuardRetryOptions, scope: GuardScope, prefix: string) {
    const options = readOptions(prefix, given, retryOptionNames);
    const { mode, rest } = takeMode(options, prefix);
    const { retryError, ...own } = rest;
    this.mode = mode;
    // Who asks for retries says by that that running the work twice does no harm.
    this.#options = resolveRetryOptions({ ...own, idempotent: true }, prefix);
    this.#retryError = optionalFunction(`${prefix}.retryError`, retryError);
    const { budget } = this.#options;
    this.budget = budget === undefined ? undefined : new RetryBudget(budget, scope.clock);
    this.#name = scope.name;
    this.#random = scope.random;
    this.#report = scope.report;
  }

  /** The rules for one run. */
  rules(): RetryRules {
    return new RetryRules(this.#options, this.#random);
  }

  /** What the rules go by. */
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

/** What answers in place of guarded work. */
export class GuardFallback<F> implements ControlledPolicy {
  mode: Mode;
  readonly timeoutMs: number;
  /** How often it was asked and had an answer, or had none. Both only grow. */
  readonly counts = { answered: 0, unanswered: 0 };
  readonly #options: GuardFallbackOptions<F>;
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

  wants(error: unknown): boolean {
    const { when } = this.#options;
    if (when === undefined) return true;
    return ask(() => when(error), yesOrNo, false, this.#scope.report, "guard.fallback.when");
  }

  /** The work that gives the answer to an error. */
  answerTo(error: unknown): GuardedWork<F> {
    const { answer, value } = this.#options;
    if (answer === undefined) return () => value;
    // A signal is made for functions that declare one.
    return answer.length < 2
      ? () => given(() => answer(error, neverAborted))
      : (signal) => given(() => answer(error, signal));
  }

  snapshot(): { readonly answered: number; readonly unanswered: number } {
    return { ...this.counts };
  }
}

/** What a function rejects with that was cancelled, or that cancels itself. It says nothing of what it calls. */
function isAbort(error: unknown): boolean {
  try {
    // Not by its class: errors of another realm, such as a vm context or a test environment, have another one.
    if (typeof error !== "object" || error === null) return false;
    const { name }: { readonly name?: unknown } = error;
    return name === "AbortError";
  } catch {
    // A property that throws.
    return false;
  }
}

/** A policy of this process refused what the work asked for: a call it made, or a guard inside. Not: it took too long. */
function refusedHere(error: unknown): boolean {
  const told = rejectionOf(error);
  return told?.local === true && !timedOut.has(told.reason);
}

const timedOut: ReadonlySet<string> = new Set([
  "WORK_TIMEOUT",
  "ATTEMPT_TIMEOUT",
  "CONNECTION_TIMEOUT",
  "FIRST_RESPONSE_TIMEOUT",
  "IDLE_TIMEOUT",
  "DEADLINE_EXCEEDED",
]);

/** Takes the mode out of the options of a policy, so that it sees only its own. */
function takeMode<O extends { readonly mode?: Mode }>(
  given: O,
  prefix: string,
): { readonly mode: Mode; readonly rest: Omit<O, "mode"> } {
  const options = readOptions(prefix, given);
  const { mode = "enforce", ...rest } = options;
  return { mode: oneOf(`${prefix}.mode`, mode, modes), rest };
}
