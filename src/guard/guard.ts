import type { Gauges } from "../core/gauges.js";
import { InvalidOptionError, nameText, oneOf, readOptions, wholeNumber } from "../core/options.js";
import { priorities } from "../core/priority.js";
import type { Succession } from "../core/succession.js";
import type { GuardSpan, GuardSpans } from "../grpc/context/guard-spans.js";
import { currentInbound, type InboundCall } from "../grpc/context/inbound-call.js";
import type { Environment } from "../grpc/environment.js";
import { GuardRejectedError } from "../grpc/status/guard-rejected-error.js";
import {
  type BuiltGuard,
  buildGuard,
  type GuardCounts,
  type GuardPolicies,
  succeedGuard,
} from "./compiled.js";
import { runFast } from "./fast-path.js";
import type { GuardedWork, GuardOptions, GuardRunOptions } from "./options.js";
import type { GuardFallback } from "./policies.js";
import { GuardRun } from "./run.js";

/**
 * The counts of one guard. All but `abandoned` only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/guard.md
 */
export interface GuardSnapshot extends Readonly<GuardCounts> {
  readonly name: string;
}

/** Reasons after which nobody waits for an answer, so that the fallback is not asked. */
const nobodyWaits: ReadonlySet<string> = new Set([
  "PARENT_CANCELLED",
  "DEADLINE_EXPIRED",
  "DEADLINE_EXCEEDED",
  "CLOSED",
]);

/**
 * Policies around work that is no gRPC call: a database pool, an HTTP client, a file. They are those of a client, in the
 * same order: fallback, deadline, retry, circuit breaker, bulkhead with its queue, attempt timeout, the work.
 *
 * Inside a handler, a run ends at the deadline and at the cancellation of the inbound call, and queues with its priority.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/guard.md
 */
export class Guard<F = never> {
  readonly name: string;
  #built: BuiltGuard<F>;
  readonly #spans: GuardSpans | undefined;

  /** Use `weir.guard` to make one. */
  constructor(built: BuiltGuard<F>, spans: GuardSpans | undefined) {
    this.name = built.guard.name;
    this.#built = built;
    this.#spans = spans;
  }

  /**
   * Builds what newer options ask for. Nothing changes before it is applied.
   *
   * @internal
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  prepare(options: GuardOptions<F>, environment: Environment): PreparedGuard {
    const fresh = buildGuard(this.name, options, environment, this.#built.guard.clock);
    return {
      before: this.#built.policies,
      built: fresh.policies,
      apply: (succession) => {
        this.#built = succeedGuard(this.#built, fresh, environment, succession);
      },
    };
  }

  /**
   * Runs `work` behind the policies. It rejects
   *
   * - with what the work throws or rejects with, the same object;
   * - with a `GuardRejectedError` when a policy refuses the work or a timeout expires: at once, even if the work
   *   ignores its signal. Such work keeps its slot in the bulkhead until it settles;
   * - with the reason of `given.signal` when that is aborted.
   *
   * @param work Gets a signal that is aborted when the run ends before the work: at `timeouts.totalMs` or `timeouts.attemptMs`,
   *   when the inbound call is cancelled or its deadline passes, or by `given.signal`. A function that declares no
   *   parameter is called without one. With `retry` it may be called several times.
   */
  run<T>(work: GuardedWork<T>, given?: GuardRunOptions): Promise<T | F> {
    let options: GuardRunOptions | undefined;
    if (typeof work !== "function" || given !== undefined) {
      try {
        if (typeof work !== "function") throw new TypeError("guard.run takes a function");
        options = given && runOptions(given);
      } catch (error) {
        return Promise.reject(error);
      }
    }
    const current = currentInbound();
    // Work that a handler begins after its answer does not end with the call.
    const inbound = current?.end === "finished" ? undefined : current;
    const spans = this.#spans;
    const span =
      spans === undefined || spans.idle ? undefined : this.#startSpan(spans, options, inbound);
    const alone = options === undefined && inbound === undefined && span === undefined;
    const { guard, fallback } = this.#built;
    if (alone && fallback === undefined && guard.single && guard.history?.onCall === undefined) {
      return runFast(guard, work);
    }
    const run = new GuardRun<T>(guard, work, options, inbound, span);
    if (fallback === undefined) return run.start();
    return this.#conclude(run, run.start(true), fallback, options, inbound);
  }

  /** Tells how many runs have ended, and how. */
  measure(gauges: Gauges): void {
    const { succeeded, failed, rejected } = this.#built.guard.counts;
    const guard = this.name;
    gauges.note("guardRuns", succeeded, { guard, outcome: "succeeded" });
    gauges.note("guardRuns", failed, { guard, outcome: "failed" });
    gauges.note("guardRuns", rejected, { guard, outcome: "rejected" });
  }

  snapshot(): GuardSnapshot {
    return { name: this.name, ...this.#built.guard.counts };
  }

  #startSpan(
    spans: GuardSpans,
    options: GuardRunOptions | undefined,
    inbound: InboundCall | undefined,
  ): GuardSpan | undefined {
    return spans.start({
      name: this.name,
      key: options?.key,
      priority: options?.priority ?? inbound?.priority,
      clock: this.#built.guard.clock,
    });
  }

  async #conclude<T>(
    run: GuardRun<T>,
    result: Promise<T>,
    fallback: GuardFallback<F>,
    options: GuardRunOptions | undefined,
    inbound: InboundCall | undefined,
  ): Promise<T | F> {
    let failed: { readonly error: unknown } | undefined;
    let degraded = false;
    try {
      return await result;
    } catch (error) {
      failed = { error };
      const waited = inbound?.end === undefined && options?.signal?.aborted !== true;
      const ours = error instanceof GuardRejectedError && error.guard === this.name;
      if (fallback.mode === "off") throw error;
      if (!waited || (ours && nobodyWaits.has(error.reason)) || !fallback.wants(error)) throw error;
      run.note("fallback", "fallback", fallback.mode === "enforce");
      if (fallback.mode === "observe") throw error;
      const answered = await this.#answer(fallback, error, options, inbound);
      if ("ended" in answered) {
        failed = { error: answered.ended };
        throw answered.ended;
      }
      if ("unanswered" in answered) {
        run.note("fallback", "stop", true, { reason: "FALLBACK_UNANSWERED" });
        throw error;
      }
      failed = undefined;
      degraded = true;
      // The handler's answer is now less than it should be; the trailers tell its caller.
      inbound?.degrade(this.name);
      return answered.answer;
    } finally {
      run.conclude(failed, degraded);
    }
  }

  async #answer(
    fallback: GuardFallback<F>,
    error: unknown,
    options: GuardRunOptions | undefined,
    inbound: InboundCall | undefined,
  ): Promise<FallbackEnd<F>> {
    const work = fallback.answerTo(error);
    try {
      const answer = await new GuardRun(this.#built.fallbackGuard, work, options, inbound).start();
      fallback.counts.answered += 1;
      return { answer };
    } catch (failure) {
      // If something ended the run while the fallback was at work, the run rejects as it would without a fallback.
      if (options?.signal?.aborted === true) return { ended: options.signal.reason };
      const ours = failure instanceof GuardRejectedError && failure.guard === this.name;
      if (ours && nobodyWaits.has(failure.reason)) return { ended: failure };
      fallback.counts.unanswered += 1;
      return { unanswered: true };
    }
  }
}

/** The result of a fallback: an answer, none, or the error of the run if it ended while the fallback was at work. */
type FallbackEnd<F> =
  | { readonly answer: F }
  | { readonly unanswered: true }
  | { readonly ended: unknown };

/**
 * Copies and checks the options of one run. The caller may change its object while the run goes on.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
function runOptions(given: GuardRunOptions): GuardRunOptions {
  const options = readOptions("run", given, ["signal", "priority", "weight", "key"]);
  const { signal, priority, weight, key } = options;
  if (signal !== undefined && typeof signal?.addEventListener !== "function") {
    throw new InvalidOptionError("run.signal", "an AbortSignal", signal);
  }
  if (priority !== undefined) oneOf("run.priority", priority, priorities);
  if (weight !== undefined) wholeNumber("run.weight", weight, 1);
  if (key !== undefined && typeof key !== "string") {
    throw new InvalidOptionError("run.key", "a string", key);
  }
  return options;
}

/** What was built from newer options of a guard, and is not used yet. */
export interface PreparedGuard {
  /** What is in use. */
  readonly before: GuardPolicies;
  readonly built: GuardPolicies;
  /** Carries what is in use over to it. */
  apply(succession: Succession): void;
}

/** Makes the policies of a new guard controllable at run time. */
export type ControlPolicies = (built: GuardPolicies) => void;

/** The options of a guard, of the code and of data; `undefined` where neither has any. */
export type LayGuard = (
  name: string,
  options: GuardOptions<unknown> | undefined,
) => GuardOptions<unknown> | undefined;

/** The guards of a weir, by name. */
export class Guards {
  readonly #guards = new Map<
    string,
    {
      readonly guard: Guard<unknown>;
      readonly options: object;
      readonly given: GuardOptions<unknown> | undefined;
    }
  >();
  readonly #environment: Environment;
  readonly #control: ControlPolicies;
  readonly #spans: GuardSpans | undefined;
  readonly #lay: LayGuard;

  /** @param lay Lays the options of the code over those that come from data. */
  constructor(
    environment: Environment,
    control: ControlPolicies,
    spans: GuardSpans | undefined,
    lay: LayGuard = (_name, options) => options,
  ) {
    this.#environment = environment;
    this.#control = control;
    this.#spans = spans;
    this.#lay = lay;
  }

  /**
   * Finds the guard of a name, or builds it: each name has one guard.
   *
   * @throws InvalidOptionError for an option out of range, for a name whose guard was built with other options, and
   *   without options for a name that has no guard.
   */
  get<F>(name: string, options: GuardOptions<F> | undefined): Guard<F> {
    nameText("guard.name", name);
    const known = this.#guards.get(name);
    if (known !== undefined) {
      if (options !== undefined && options !== known.options) {
        const rule = "called with the options that built it, or with none";
        throw new InvalidOptionError(`guard("${name}")`, rule, options);
      }
      // The type of its fallback's answer is known where it was built. Here the caller states it.
      return known.guard as Guard<F>;
    }
    const laid = this.#lay(name, options);
    if (laid === undefined) {
      throw new InvalidOptionError(`guard("${name}")`, "built with options first", options);
    }
    const built = buildGuard(name, laid, this.#environment);
    // The data has no answers: a fallback is that of the code.
    const guard = new Guard<F>(built as BuiltGuard<F>, this.#spans);
    this.#control(built.policies);
    this.#guards.set(name, { guard, options: options ?? laid, given: options });
    return guard;
  }

  /**
   * Builds what newer options of all guards ask for. Nothing changes before it is applied. A guard that only the data had, and that
   * it has no longer, stays as it is.
   *
   * @param lay Lays the options of the code over the newer ones of data.
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  prepare(lay: LayGuard): readonly PreparedGuard[] {
    return [...this.#guards].flatMap(([name, { guard, given }]) => {
      const laid = lay(name, given);
      return laid === undefined ? [] : [guard.prepare(laid, this.#environment)];
    });
  }

  measure(gauges: Gauges): void {
    for (const { guard } of this.#guards.values()) guard.measure(gauges);
  }

  snapshot(): readonly GuardSnapshot[] {
    return [...this.#guards.values()].map(({ guard }) => guard.snapshot());
  }
}
