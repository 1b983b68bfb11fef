import type { Decision } from "../core/decision.js";
import type { Outcome, Permit } from "../core/permit.js";
import { type Refusal, refusal } from "../core/refusal.js";
import { captureContext, type RestoreContext } from "../grpc/async-context.js";
import { GuardRejectedError } from "../grpc/guard-rejection.js";
import type { GuardAttemptSpan, GuardSpan } from "../grpc/guard-spans.js";
import type { InboundCall, InboundEnd } from "../grpc/inbound-call.js";
import type { GuardRunOptions } from "./guard-options.js";
import type { GuardPlan } from "./guard-plan.js";
import { neverAborted } from "./guard-signal.js";
import { Timed } from "./guard-timer.js";

/** What a guard runs. A function that declares no parameter is called without a signal, and none is made for it. */
export type GuardedWork<T> = (signal: AbortSignal) => T | PromiseLike<T>;

/** An inbound call keeps so many decisions at most: a stream may last for days. */
const maxNoted = 128;

/**
 * The life of one run: its promise, and all that can end it beside its work. Of several ends the first counts.
 *
 * The end of a run does not end its work. The work is asked to end by its signal; what it does then is its own
 * affair, and its place in the bulkhead is taken until it does.
 */
export abstract class GuardLife<T> extends Timed {
  protected readonly plan: GuardPlan;
  protected readonly work: GuardedWork<T>;
  protected readonly asked: GuardRunOptions | undefined;
  protected readonly inbound: InboundCall | undefined;
  protected readonly span: GuardSpan | undefined;
  /** How many attempts have begun. */
  attempts = 0;
  /** The number of the attempt that decides the run; 0 while none does. */
  protected current = 0;
  protected over = false;
  /** The breaker's, for the current attempt. */
  protected permit: Permit | undefined = undefined;
  protected attemptSpan: GuardAttemptSpan | undefined = undefined;
  /** What the last attempt failed with, while another is to follow. */
  protected last: { readonly error: unknown } | undefined = undefined;
  /** Only where somebody records. */
  readonly decisions: Decision[] | undefined;
  #abort: AbortController | undefined = undefined;
  #restore: RestoreContext | undefined = undefined;
  #unfollow: (() => void) | undefined = undefined;
  #closed: (() => void) | undefined = undefined;
  #resolve: (value: T) => void = unsettled;
  #reject: (error: unknown) => void = unsettled;

  constructor(
    plan: GuardPlan,
    work: GuardedWork<T>,
    asked: GuardRunOptions | undefined,
    inbound: InboundCall | undefined,
    span: GuardSpan | undefined,
  ) {
    super();
    this.plan = plan;
    this.work = work;
    this.asked = asked;
    this.inbound = inbound;
    this.span = span;
    this.decisions = span === undefined ? undefined : [];
  }

  /** Once. */
  start(): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      this.begin();
    });
  }

  protected abstract begin(): void;

  /** Gives up every wait. */
  protected abstract released(): void;

  /** Lets all bound the run that may. False when it has ended by that already. */
  protected follow(nowMs: number): boolean {
    const { inbound, asked, plan } = this;
    const { timer } = plan;
    const { signal } = asked ?? {};
    if (inbound !== undefined && !this.#followInbound(inbound, nowMs)) return false;
    if (signal !== undefined && !this.#followSignal(signal)) return false;
    // Where the inbound call ends no later, it is the one that tells.
    if (timer !== undefined && nowMs + timer.ms < this.deadlineMs) timer.start(this, nowMs);
    const { attemptTimer, retry } = plan;
    const aborts = this.work.length > 0 && (this.timed || attemptTimer !== undefined);
    // A timer serves many runs. What is begun or told from it must find the context of this one.
    if (aborts || (attemptTimer !== undefined && retry !== undefined)) {
      this.#restore = captureContext();
    }
    return true;
  }

  /** The inbound call's, on the monotonic clock; `Infinity` for none. */
  protected get deadlineMs(): number {
    return this.inbound?.deadlineMs ?? Number.POSITIVE_INFINITY;
  }

  /** The timer of the guard runs for it. */
  protected get timed(): boolean {
    return this.dueMs !== Number.POSITIVE_INFINITY;
  }

  /** The signal for the attempt that begins: one that exists, where that tells all there is to tell. */
  protected signal(): AbortSignal {
    const { inbound, plan } = this;
    const given = this.asked?.signal;
    const timed = this.timed || plan.attemptTimer !== undefined;
    if (!timed && inbound === undefined) return given ?? neverAborted;
    if (!timed && given === undefined && inbound !== undefined) return inbound.signal;
    this.#abort = new AbortController();
    return this.#abort.signal;
  }

  /** Calls the work of the attempt off that has the signal, in the context of the run. */
  protected abort(reason: unknown): void {
    const abort = this.#abort;
    if (abort === undefined) return;
    this.#abort = undefined;
    this.inContext(() => abort.abort(reason));
  }

  /** Runs something from a timer that serves many. */
  protected inContext(task: () => void): void {
    if (this.#restore === undefined) task();
    else this.#restore(task);
  }

  override expire(): void {
    const ms = this.plan.timer?.ms ?? Number.NaN;
    const where =
      this.current > 0 ? "" : this.last === undefined ? ", not begun" : ", waiting to retry";
    this.cut(
      "timeouts",
      "expire",
      refusal("WORK_TIMEOUT", `no result within ${ms} ms${where}`),
      "failure",
    );
  }

  /** Tells the run that the weir was closed. The same function each time. */
  protected get closed(): () => void {
    this.#closed ??= () =>
      this.cut("deadline", "cancel", refusal("CLOSED", "the weir is closed"), "ignored");
    return this.#closed;
  }

  /** Ends the run before its work, for a reason of ours. */
  protected cut(
    policy: Decision["policy"],
    verdict: Decision["verdict"],
    refused: Refusal,
    outcome: Outcome,
  ): void {
    if (this.over) return;
    const { reason, detail } = refused;
    this.decide({ policy, verdict, reason, enforced: true, atMs: this.plan.clock.now(), detail });
    const cause = this.last?.error;
    this.plan.counts.rejected += 1;
    this.#leave(new GuardRejectedError(this.plan.name, refused, cause), outcome);
  }

  protected succeed(value: T): void {
    const { permit } = this;
    this.permit = undefined;
    permit?.settle("success");
    this.plan.retry?.budget?.success();
    this.attemptSpan?.end(this.plan.clock.now());
    this.plan.counts.succeeded += 1;
    this.#end();
    this.#resolve(value);
  }

  /** Ends the run with what its last attempt failed with. */
  protected fail(error: unknown): void {
    const { counts, name } = this.plan;
    if (error instanceof GuardRejectedError && error.guard === name) counts.rejected += 1;
    else counts.failed += 1;
    this.#end();
    this.#reject(error);
  }

  /** Ends the span, when nothing more is to come. `failed`: what the caller gets. */
  endSpan(failed: { readonly error: unknown } | undefined): void {
    const { span, attempts, decisions, plan } = this;
    span?.end({ atMs: plan.clock.now(), attempts, decisions: decisions ?? [], failed });
  }

  /** Notes a decision, and tells who wants to know. */
  decide(decision: Decision): void {
    const { inbound, plan } = this;
    this.decisions?.push(decision);
    if (inbound !== undefined && inbound.decisions.length < maxNoted) {
      const { detail } = decision;
      const named = detail === undefined ? plan.name : `${plan.name}: ${detail}`;
      inbound.decisions.push({ ...decision, detail: named });
    }
    plan.tell(decision);
  }

  /** The current attempt is given up: its work runs on, and nobody waits for it. */
  protected abandon(error: unknown, outcome: Outcome): void {
    const { permit } = this;
    this.permit = undefined;
    permit?.settle(outcome);
    if (this.current > 0) this.plan.counts.abandoned += 1;
    this.current = 0;
    this.attemptSpan?.end(this.plan.clock.now(), { error });
    this.attemptSpan = undefined;
  }

  #leave(error: unknown, outcome: Outcome): void {
    this.abandon(error, outcome);
    this.#end();
    this.#reject(error);
    this.abort(error);
  }

  #end(): void {
    this.over = true;
    this.current = 0;
    this.plan.timer?.stop(this);
    this.#unfollow?.();
    this.released();
  }

  #followInbound(inbound: InboundCall, nowMs: number): boolean {
    const { end } = inbound;
    if (end !== undefined) {
      this.#calledOff(end);
      return false;
    }
    if (inbound.deadlineMs <= nowMs) {
      const refused = refusal("DEADLINE_EXPIRED", "the deadline had passed");
      this.cut("deadline", "reject", refused, "ignored");
      return false;
    }
    this.#unfollow = inbound.onCalledOff((ended) => this.#calledOff(ended));
    return true;
  }

  #calledOff(end: InboundEnd): void {
    if (end === "deadline") {
      const refused = refusal("DEADLINE_EXCEEDED", "the deadline of the inbound call has passed");
      this.cut("deadline", "expire", refused, "failure");
      return;
    }
    const refused = refusal("PARENT_CANCELLED", "the inbound call was cancelled");
    this.cut("deadline", "cancel", refused, "ignored");
  }

  #followSignal(signal: AbortSignal): boolean {
    const calledOff = () => {
      if (this.over) return;
      const atMs = this.plan.clock.now();
      const detail = "the signal of the run was aborted";
      this.decide({ policy: "deadline", verdict: "cancel", enforced: true, atMs, detail });
      this.plan.counts.rejected += 1;
      this.#leave(signal.reason, "ignored");
    };
    if (signal.aborted) {
      calledOff();
      return false;
    }
    const above = this.#unfollow;
    signal.addEventListener("abort", calledOff, { once: true });
    this.#unfollow = () => {
      above?.();
      signal.removeEventListener("abort", calledOff);
    };
    return true;
  }
}

function unsettled(): void {}
