import { type CancelTask, expireAt, heldUp } from "../core/clock.js";
import type { ObserveReport } from "../core/control.js";
import type { Decision, PolicyName, Reason, Verdict } from "../core/decision.js";
import { type GateHost, GateRun } from "../core/gate.js";
import { type Outcome, type Queued, type Refusal, refusal } from "../core/permit.js";
import type { Priority } from "../core/priority.js";
import { inMs } from "../core/rounded.js";
import { startWork } from "../core/user-code.js";
import type { WaitObserver } from "../core/wait.js";
import { captureContext, type RestoreContext } from "../grpc/context/async-context.js";
import type { AttemptFacts, TraceIds } from "../grpc/context/finished-call.js";
import type { GuardAttemptSpan, GuardSpan } from "../grpc/context/guard-spans.js";
import type { History } from "../grpc/context/history.js";
import type { InboundCall, InboundEnd } from "../grpc/context/inbound-call.js";
import { GuardRejectedError } from "../grpc/status/guard-rejected-error.js";
import { notAfter, type RetryRules, stopText } from "../policies/retry/rules.js";
import { type CompiledGuard, Passed } from "./compiled.js";
import { endedFacts, failureOf } from "./ended-run.js";
import { type GuardedWork, type GuardRunOptions, neverAborted } from "./options.js";
import type { GuardPassage, GuardRetry } from "./policies.js";
import type { Expiring, GuardTimer, RunningTimeout } from "./timer.js";

/** `#current` while no attempt is under way: the run waits for the first or the next one. */
const between = 0;
/** `#current` once the run has ended. */
const over = -1;

/**
 * One run of guarded work. Each attempt passes the policies of the guard, and may wait in the bulkhead's queue. A
 * failed attempt may be followed by another one, after a backoff. The run ends once, by the first of
 *
 * - the work: it succeeds, or fails and is not retried;
 * - a policy that refuses an attempt;
 * - `timeouts.totalMs`, the deadline or the cancellation of the inbound call, the caller's signal, or the close of the weir.
 *
 * The end of a run does not stop its work. The signal of the work is aborted; until the work settles, it keeps its slot
 * in the bulkhead, and nothing else.
 */
export class GuardRun<T> implements GateHost, GuardPassage, Expiring {
  /** How many attempts have begun. */
  attempts = 0;
  /** The place in the bulkhead's queue that the run has before it comes to the gates. */
  queued: Queued | undefined;
  readonly #guard: CompiledGuard;
  readonly #work: GuardedWork<T>;
  readonly #options: GuardRunOptions | undefined;
  readonly #inbound: InboundCall | undefined;
  readonly #trace: RunTrace | undefined;
  /** When the run began, where the clock was read for something else, or somebody is told of all runs. */
  #startedAtMs: number | undefined;
  /** Its owner calls `conclude`, because a fallback may follow. */
  #followed = false;
  /** For the span, and for who keeps the run. */
  #decisions: Decision[] | undefined;
  #failedAttempts: AttemptFacts[] | undefined;
  /** When the attempt under way began, after the first one. */
  #attemptMs = 0;
  #resolve: (value: T) => void = unsettled;
  #reject: (error: unknown) => void = unsettled;
  /** The number of the attempt under way, {@link between} or {@link over}. */
  #current = between;
  /** The permits of the attempt under way, or the next attempt's walk through the gates. */
  #passage: Passed | GateRun<GuardPassage> | undefined;
  // Most runs need few of the following fields, so each is made when it is needed.
  #retry: Retry | undefined;
  /** `timeouts.totalMs`, if it ends before the time that the inbound call leaves. */
  #timeout: RunningTimeout | undefined;
  #attemptTimeout: RunningTimeout | undefined;
  /** Ends the run when the weir is closed while the run waits. */
  #closed: (() => void) | undefined;
  #subscriptions: Subscriptions | undefined;

  constructor(
    guard: CompiledGuard,
    work: GuardedWork<T>,
    options?: GuardRunOptions,
    inbound?: InboundCall,
    span?: GuardSpan,
    queued?: Queued,
  ) {
    this.#guard = guard;
    this.#work = work;
    this.#options = options;
    this.#inbound = inbound;
    this.#trace = span && { span, attempt: undefined };
    this.queued = queued;
  }

  get clock(): CompiledGuard["clock"] {
    return this.#guard.clock;
  }

  get observed(): ObserveReport {
    return this.#guard.observed;
  }

  get waits(): WaitObserver | undefined {
    return this.#trace?.span;
  }

  get key(): string | undefined {
    return this.#options?.key;
  }

  get priority(): Priority {
    return this.#options?.priority ?? this.#inbound?.priority ?? "normal";
  }

  get weight(): number {
    return this.#options?.weight ?? 1;
  }

  get byMs(): number {
    // The timeout runs only if it is the earlier of the two.
    return this.#timeout?.dueMs ?? this.#subscriptions?.leftUntilMs ?? Number.POSITIVE_INFINITY;
  }

  get timed(): boolean {
    return this.#timeout !== undefined;
  }

  get #over(): boolean {
    return this.#current === over;
  }

  // ---- The start, and what may end the run from outside.

  /** Called once. `followed`: the caller calls `conclude` when it knows the end. */
  start(followed = false): Promise<T> {
    this.#followed = followed;
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      this.#start();
    });
  }

  #start(): void {
    const { pendingCalls, clock, retry, timer, history } = this.#guard;
    const told = history?.onCall !== undefined;
    // One reading of the clock serves all decisions before the first attempt.
    const held = told || timer !== undefined || retry !== undefined || this.#inbound !== undefined;
    const nowMs = held ? clock.hold() : 0;
    if (held) this.#startedAtMs = nowMs;
    // A run that has its place in the queue leaves it when it comes to wait.
    if (pendingCalls.closed && this.queued === undefined) {
      if (held) clock.release();
      this.#close();
      return;
    }
    try {
      if (!this.#subscribeAll(nowMs)) return;
      if (retry !== undefined && retry.mode !== "off") retry.budget?.call(this.priority);
      if (!this.#pass()) return;
    } finally {
      if (held) clock.release();
    }
    this.#begin();
  }

  /** Subscribes to everything that may end the run. False when the run has ended by that already. */
  #subscribeAll(nowMs: number): boolean {
    const { timer, attemptTimer, retry } = this.#guard;
    const signal = this.#options?.signal;
    if (this.#inbound !== undefined && !this.#followInbound(this.#inbound, nowMs)) return false;
    if (signal !== undefined && !this.#followSignal(signal)) return false;
    if (timer !== undefined && nowMs + timer.ms < this.byMs)
      this.#timeout = timer.start(this, nowMs);
    else if (this.byMs !== Number.POSITIVE_INFINITY) this.#startInboundTimer(this.byMs, nowMs);
    const aborts = (this.#timeout ?? attemptTimer) !== undefined && this.#work.length > 0;
    const told = this.#guard.history?.onCall !== undefined;
    if (aborts || told || (attemptTimer !== undefined && retry !== undefined)) {
      this.#subscribe().restore = captureContext();
    }
    return true;
  }

  #followInbound(inbound: InboundCall, nowMs: number): boolean {
    const { end, deadlineMs } = inbound;
    if (end !== undefined) {
      this.#inboundEnded(end);
      return false;
    }
    if (deadlineMs <= nowMs) {
      const refused = refusal("DEADLINE_EXPIRED", "the deadline had passed");
      this.#endBy("deadline", "reject", refused, "ignored");
      return false;
    }
    const subscriptions = this.#subscribe();
    subscriptions.leaveInbound = inbound.onCancelled((ended) => this.#inboundEnded(ended));
    subscriptions.leftUntilMs =
      deadlineMs - Math.min(this.#guard.marginMs, (deadlineMs - nowMs) / 2);
    return true;
  }

  #followSignal(signal: AbortSignal): boolean {
    const aborted = () => {
      if (this.#over) return;
      this.note("deadline", "cancel", true, { detail: "the signal of the run was aborted" });
      this.#endEarly(signal.reason, "ignored");
    };
    if (signal.aborted) aborted();
    else {
      signal.addEventListener("abort", aborted, { once: true });
      this.#subscribe().leaveSignal = () => signal.removeEventListener("abort", aborted);
    }
    return !this.#over;
  }

  /** Ends the run `marginMs` before the deadline of the inbound call: its handler needs time to answer. */
  #startInboundTimer(dueMs: number, nowMs: number): void {
    this.#subscribe().stopInboundTimer = expireAt(this.clock, dueMs, dueMs - nowMs, (lateMs) =>
      this.#outOfTime("the time that the inbound call leaves is over", lateMs),
    );
  }

  #subscribe(): Subscriptions {
    this.#subscriptions ??= new Subscriptions();
    return this.#subscriptions;
  }

  // ---- The policies.

  /** Asks the policies for an attempt. False when the run has to wait or has ended. */
  #pass(): boolean {
    const guard = this.#guard;
    if (guard.gates.length === 0) return true;
    const passed = this.queued ?? guard.passAtOnce(this);
    if (this.#over) {
      // An observer of a policy has ended the run, for example by its signal.
      if (passed instanceof Passed) passed.settle("ignored");
      else if (passed?.kind === "queued") passed.leave();
      return false;
    }
    if (passed instanceof Passed) {
      this.#passage = passed;
      return true;
    }
    if (passed?.kind === "refused") {
      this.note(passed.policy, "reject", true, passed.refusal);
      if (!this.#over) this.refused(passed.refusal);
      return false;
    }
    this.queued = passed;
    const passage = new GateRun<GuardPassage>(guard.gates, this, this);
    this.#passage = passage;
    passage.run();
    this.queued = undefined;
    if (!passage.waiting) return !this.#over;
    this.#wait();
    return false;
  }

  admitted(waited: boolean): void {
    // Without a wait, `#pass` returns and its caller begins the attempt.
    if (!waited) return;
    this.#waited();
    this.#begin();
  }

  /** A policy refused the attempt, which ends the run: with the error of the attempt before, if there was one. */
  refused(refused: Refusal): void {
    const before = this.#retry;
    if (before === undefined) {
      this.#endEarly(new GuardRejectedError(this.#guard.name, refused), "ignored");
      return;
    }
    this.#noteStop(before.policy, refused.reason);
    this.#fail(before.error);
  }

  /** The run waits, in the queue or for the next attempt. The close of the weir ends it now. */
  #wait(): void {
    this.#closed ??= () => this.#close();
    this.#guard.pendingCalls.enter(this.#closed);
  }

  #waited(): void {
    if (this.#closed !== undefined) this.#guard.pendingCalls.leave(this.#closed);
  }

  // ---- An attempt.

  #begin(): void {
    const guard = this.#guard;
    const passage = this.#passage;
    const retry = this.#retry;
    if (retry !== undefined) retry.withdrawnMs = undefined;
    this.attempts += 1;
    const number = this.attempts;
    this.#current = number;
    if (number > 1 && guard.history !== undefined) this.#attemptMs = this.clock.now();
    if (this.#hasDeadline) this.#subscribe().begunMs = this.clock.now();
    if (guard.attemptTimer !== undefined) this.#startAttemptTimeout(guard.attemptTimer);
    // Even if the run has ended before, the slot is given back only when the work has settled.
    const succeeded = (value: T): void => {
      if (this.#current === number) this.#succeed(value);
      else guard.counts.abandoned -= 1;
      passage?.settle("success");
    };
    const failed = (error: unknown): void => {
      if (this.#current === number) this.#attemptFailed(error);
      else guard.counts.abandoned -= 1;
      passage?.settle("failure");
    };
    let made: T | Promise<T>;
    try {
      made = this.#trace === undefined ? this.#callWork() : this.#callTraced(this.#trace);
      // Inside the `try`, because an object that only looks like a promise throws here.
      if (made instanceof Promise) {
        made.then(succeeded, failed);
        return;
      }
    } catch (error) {
      failed(error);
      return;
    }
    succeeded(made);
  }

  #callWork(): T | Promise<T> {
    return startWork(this.#work, () => this.#signal());
  }

  #callTraced(trace: RunTrace): T | Promise<T> {
    trace.attempt = trace.span.attempt({
      number: this.attempts,
      delayMs: this.#retry?.delayMs ?? 0,
      startedAtMs: this.clock.now(),
    });
    return trace.attempt.run(() => this.#callWork());
  }

  /** The signal for the attempt: an existing one if no other event ends the work, and a new one otherwise. */
  #signal(): AbortSignal {
    const inbound = this.#inbound;
    const given = this.#options?.signal;
    const timed =
      (this.#timeout ?? this.#guard.attemptTimer ?? this.#subscriptions?.stopInboundTimer) !==
      undefined;
    if (!timed && inbound === undefined) return given ?? neverAborted;
    if (!timed && given === undefined && inbound !== undefined) return inbound.signal;
    const abort = new AbortController();
    this.#subscribe().abort = abort;
    return abort.signal;
  }

  #startAttemptTimeout(timer: GuardTimer): void {
    const expire = (_timer: GuardTimer, lateMs: number) => {
      this.#attemptTimeout = undefined;
      const held = heldUp(lateMs);
      const detail = `no result of attempt ${this.attempts} within ${timer.ms} ms`;
      const refused = refusal("WORK_TIMEOUT", detail);
      const error = new GuardRejectedError(this.#guard.name, refused);
      this.note("timeouts", "expire", true, refused);
      if (this.#over) return;
      const subscriptions = this.#subscriptions;
      this.#current = between;
      this.#abandon(error, held ? "ignored" : "failure");
      subscriptions?.abortWork(error);
      if (subscriptions === undefined) this.#retryOrFail(error, held);
      else subscriptions.inContext(() => this.#retryOrFail(error, held));
    };
    this.#attemptTimeout = timer.start({ expire }, this.clock.now());
  }

  #stopAttemptTimeout(): void {
    if (this.#attemptTimeout === undefined) return;
    this.#guard.attemptTimer?.stop(this.#attemptTimeout);
    this.#attemptTimeout = undefined;
  }

  /** The attempt has ended before its work, which keeps running. */
  #abandon(error: unknown, outcome: Outcome): void {
    const passage = this.#passage;
    this.#passage = undefined;
    this.#guard.counts.abandoned += 1;
    passage?.answered(outcome);
    this.#attemptEnded({ error });
  }

  #attemptEnded(failed?: { readonly error: unknown }): void {
    const trace = this.#trace;
    trace?.attempt?.end(this.clock.now(), failed);
    if (trace !== undefined) trace.attempt = undefined;
    if (failed !== undefined && this.#guard.history !== undefined) this.#keepAttempt(failed.error);
  }

  #keepAttempt(error: unknown): void {
    const number = this.attempts;
    const endedAtMs = this.clock.now();
    this.#failedAttempts ??= [];
    if (this.#failedAttempts.length >= mostAttempts) return;
    this.#failedAttempts.push({
      number,
      cause: number === 1 ? "first" : "retry",
      delayMs: this.#retry?.delayMs ?? 0,
      startedAtMs: number === 1 ? (this.#startedAtMs ?? endedAtMs) : this.#attemptMs,
      endedAtMs,
      failed: failureOf(error),
    });
  }

  // ---- Another attempt, or the end.

  #attemptFailed(error: unknown): void {
    const { breaker } = this.#guard;
    const passage = this.#passage;
    this.#current = between;
    this.#passage = undefined;
    this.#stopAttemptTimeout();
    passage?.answered(breaker?.outcomeOf(error) ?? "failure");
    this.#attemptEnded({ error });
    this.#retryOrFail(error, false);
  }

  /** @param held The attempt timeout expired late because this process was busy. */
  #retryOrFail(error: unknown, held: boolean): void {
    const { retry, breaker, clock } = this.#guard;
    if (this.#over) return;
    if (retry === undefined || retry.mode === "off") {
      this.#fail(error);
      return;
    }
    const nowMs = clock.now();
    const rules = this.#retry?.rules ?? retry.rules();
    const failed = retry.judge(error, {
      attempts: this.attempts,
      remainingMs: this.byMs - nowMs,
      usualMs: breaker?.usualMs(this.key),
      depth: this.#inbound?.retryDepth ?? 0,
    });
    // `retryError` is a function of the user, and may have ended the run.
    if (this.#over) return;
    if (failed.wanted === true && !held) retry.budget?.failure(undefined, this.priority);
    const decision = rules.decide(failed);
    const refused =
      decision.kind === "retry" ? retry.budget?.tryWithdraw(this.priority) : undefined;
    if (decision.kind === "stop" || refused !== undefined) {
      const reason = decision.kind === "stop" ? decision.reason : "RETRY_BUDGET";
      // An error that is never retried is no decision of the policy.
      if (reason !== "RETRY_NOT_ELIGIBLE") {
        const why = refused?.detail ?? stopText(reason, failed);
        this.#noteStop(retry, reason, notAfter(failureOf(error).status, why));
      }
      this.#fail(error);
      return;
    }
    const { delayMs } = decision;
    const enforced = retry.mode === "enforce";
    retry.counts.retried += 1;
    const detail = `retry after ${failureOf(error).status}, ${inMs(delayMs)}`;
    this.note("retry", "retry", enforced, { waitMs: delayMs, detail, ...retry.budget?.reason });
    if (this.#over) retry.budget?.giveBack(nowMs, this.priority);
    else if (!enforced) this.#fail(error);
    else {
      const withdrawnMs = nowMs;
      this.#backOff({ policy: retry, error, rules, delayMs, withdrawnMs, stopTimer: undefined });
    }
  }

  #backOff(retry: Retry): void {
    const { clock, pendingCalls } = this.#guard;
    this.#retry = retry;
    if (pendingCalls.closed) {
      this.#close();
      return;
    }
    retry.stopTimer = clock.schedule(retry.delayMs, () => {
      retry.stopTimer = undefined;
      this.#noteBackoff(retry);
      this.#waited();
      if (this.#pass()) this.#begin();
    });
    this.#wait();
  }

  #noteBackoff({ withdrawnMs: startedAtMs }: Retry): void {
    const { waits, clock } = this;
    if (waits?.recording !== true || startedAtMs === undefined) return;
    waits.waited({ kind: "backoff", policy: "retry", startedAtMs, endedAtMs: clock.now() });
  }

  // ---- The ends.

  #succeed(value: T): void {
    const { counts, breaker, retry } = this.#guard;
    // First, so that an observer of the breaker, which may close now, cannot end the run otherwise.
    this.#end();
    if (this.#hasDeadline) breaker?.succeededIn(this.key, this.#tookMs);
    retry?.budget?.success(this.priority);
    this.#attemptEnded();
    counts.succeeded += 1;
    if (!this.#followed) this.conclude(undefined);
    this.#resolve(value);
  }

  /** Ends the run with the error of its last attempt. */
  #fail(error: unknown): void {
    if (this.#over) return;
    const { counts, name } = this.#guard;
    if (error instanceof GuardRejectedError && error.guard === name) counts.rejected += 1;
    else counts.failed += 1;
    this.#end();
    if (!this.#followed) this.conclude({ error });
    this.#reject(error);
  }

  expire(timer: GuardTimer, lateMs: number): void {
    this.#timeout = undefined;
    const waits = this.#retry === undefined ? ", not begun" : ", waiting to retry";
    const where = this.#current > 0 ? "" : waits;
    const refused = refusal("WORK_TIMEOUT", `no result within ${timer.ms} ms${where}`);
    this.#endBy("timeouts", "expire", refused, heldUp(lateMs) ? "ignored" : "failure");
  }

  #inboundEnded(end: InboundEnd): void {
    if (end === "deadline") {
      const lateMs = this.clock.now() - (this.#inbound?.deadlineMs ?? 0);
      this.#outOfTime("the deadline of the inbound call has passed", lateMs);
      return;
    }
    const refused = refusal("PARENT_CANCELLED", "the inbound call was cancelled");
    this.#endBy("deadline", "cancel", refused, "ignored");
  }

  #outOfTime(detail: string, lateMs: number): void {
    const outcome = heldUp(lateMs) ? "ignored" : this.#outcomeOfDeadline();
    this.#endBy("deadline", "expire", refusal("DEADLINE_EXCEEDED", detail), outcome);
  }

  get #hasDeadline(): boolean {
    const inbound = this.#inbound;
    return (
      inbound !== undefined && inbound.deadlineMs !== Infinity && this.#guard.breaker !== undefined
    );
  }

  #outcomeOfDeadline(): Outcome {
    const { breaker } = this.#guard;
    if (breaker === undefined || !this.#hasDeadline || this.#current <= 0) return "failure";
    // The attempt had the time that has passed: clients of the toolkit leave a little before their deadline.
    return breaker.outcomeOfDeadline(this.key, this.#tookMs);
  }

  /** How long the attempt has taken so far in milliseconds, if {@link #hasDeadline}. */
  get #tookMs(): number {
    return this.clock.now() - (this.#subscriptions?.begunMs ?? 0);
  }

  /** The weir was closed while the run waited, or before it began. */
  #close(): void {
    this.#endBy("deadline", "cancel", refusal("CLOSED", "the weir is closed"), "ignored");
  }

  /** Ends the run before its work, by a decision of the guard. `outcome`: how an attempt under way counts. */
  #endBy(policy: PolicyName, verdict: Verdict, refused: Refusal, outcome: Outcome): void {
    if (this.#over) return;
    this.note(policy, verdict, true, refused);
    this.#endEarly(new GuardRejectedError(this.#guard.name, refused, this.#retry?.error), outcome);
  }

  #endEarly(error: unknown, outcome: Outcome): void {
    // An observer of the decision may have ended the run.
    if (this.#over) return;
    const working = this.#current > 0;
    // First, so that an observer of the breaker, which may open now, cannot end the run otherwise.
    this.#end();
    if (working) this.#abandon(error, outcome);
    this.#guard.counts.rejected += 1;
    if (!this.#followed) this.conclude({ error });
    this.#reject(error);
    this.#subscriptions?.abortWork(error);
  }

  /** The run has ended: stops its timers, leaves what it waits for and takes back its subscriptions. */
  #end(): void {
    const working = this.#current > 0;
    this.#current = over;
    if (this.#timeout !== undefined) {
      this.#guard.timer?.stop(this.#timeout);
      this.#timeout = undefined;
    }
    this.#subscriptions?.end();
    this.#stopAttemptTimeout();
    if (working) return;
    this.#waited();
    this.#passage?.settle("ignored");
    const retry = this.#retry;
    if (retry?.withdrawnMs === undefined) return;
    if (retry.stopTimer !== undefined) {
      retry.stopTimer();
      this.#noteBackoff(retry);
    }
    // The attempt that the budget allowed never began.
    retry.policy.budget?.giveBack(retry.withdrawnMs, this.priority);
    retry.withdrawnMs = undefined;
  }

  // ---- Decisions and spans.

  get silent(): boolean {
    return !this.#keepsDecisions && !this.#guard.listens(this.#inbound);
  }

  get #keepsDecisions(): boolean {
    return this.#trace !== undefined || this.#guard.history !== undefined;
  }

  get ids(): TraceIds | undefined {
    return this.#trace?.span.ids ?? this.#guard.activeIds();
  }

  decide(decision: Decision): void {
    if (this.#keepsDecisions) {
      this.#decisions ??= [];
      this.#decisions.push(decision);
    }
    this.#guard.decide(this.#inbound, decision, this);
  }

  /** Records a decision taken now. */
  note(
    policy: PolicyName,
    verdict: Verdict,
    enforced: boolean,
    more: Partial<Pick<Decision, "reason" | "detail" | "waitMs">> = {},
  ): void {
    if (this.silent) return;
    const { reason, detail, waitMs } = more;
    this.decide({
      policy,
      verdict,
      enforced,
      atMs: this.clock.now(),
      ...(reason === undefined ? {} : { reason }),
      ...(detail === undefined ? {} : { detail }),
      ...(waitMs === undefined ? {} : { waitMs }),
    });
  }

  #noteStop(retry: GuardRetry, reason: Reason, detail?: string): void {
    retry.counts.stopped += 1;
    const enforced = retry.mode === "enforce";
    this.note("retry", "stop", enforced, detail === undefined ? { reason } : { reason, detail });
  }

  /**
   * Ends the span of the run and keeps what is known of it, after its fallback. `failed`: the error that the caller gets.
   * `degraded`: a fallback answered.
   */
  conclude(failed: { readonly error: unknown } | undefined, degraded = false): void {
    const { history } = this.#guard;
    const span = this.#trace?.span;
    // Runs that end well at once are many, and would push calls out of the history.
    const kept = history?.onCall !== undefined || failed !== undefined || degraded;
    if (span === undefined && !kept) return;
    const atMs = this.clock.now();
    const { attempts } = this;
    span?.end({ atMs, attempts, decisions: this.#decisions ?? none, failed });
    if (kept && history !== undefined) this.#keep(history, atMs, failed, degraded);
  }

  #keep(
    history: History,
    endedAtMs: number,
    failed: { readonly error: unknown } | undefined,
    degraded: boolean,
  ): void {
    const { breaker, name } = this.#guard;
    const startedAtMs = this.#startedAtMs ?? endedAtMs;
    const facts = endedFacts({
      guard: name,
      priority: this.priority,
      startedAtMs,
      endedAtMs,
      deadlineMs: this.byMs,
      failed,
      degraded,
      attemptCount: this.attempts,
      attempts: this.#failedAttempts ?? none,
      decisions: this.#decisions ?? none,
      ids: this.ids,
    });
    // How long it took is not known.
    if (this.#startedAtMs === undefined && facts.reason === undefined) return;
    const slow = endedAtMs - startedAtMs >= history.leastSlowMs;
    history.ended(facts, slow ? breaker?.usualMs(this.key) : undefined, failed?.error);
    if (history.onCall === undefined) return;
    const tell = () => history.tell(facts);
    if (this.#subscriptions === undefined) tell();
    else this.#subscriptions.inContext(tell);
  }
}

function unsettled(): void {}

const none: readonly never[] = [];
/** As many failed attempts are kept. */
const mostAttempts = 128;

/** The retry that a run waits for, or whose attempt is under way. */
interface Retry {
  readonly policy: GuardRetry;
  /** The error of the attempt before. */
  readonly error: unknown;
  readonly rules: RetryRules;
  readonly delayMs: number;
  /** When the budget allowed the attempt; `undefined` once it has begun. */
  withdrawnMs: number | undefined;
  /** Stops the backoff. */
  stopTimer: CancelTask | undefined;
}

/** The spans of a run, which exist only if somebody records. */
interface RunTrace {
  readonly span: GuardSpan;
  /** The span of the attempt under way. */
  attempt: GuardAttemptSpan | undefined;
}

/** What a run is subscribed to, the inbound call and the caller's signal, and the signal of its own work. */
class Subscriptions {
  /** Until when the inbound call leaves the run time, on the monotonic clock. */
  leftUntilMs = Number.POSITIVE_INFINITY;
  stopInboundTimer: CancelTask | undefined;
  leaveInbound: (() => void) | undefined;
  leaveSignal: (() => void) | undefined;
  /** When the attempt began, if the inbound call has a deadline. */
  begunMs = 0;
  /** Aborts the work of the attempt. */
  abort: AbortController | undefined;
  /** Restores the async context of the run, in callbacks of timers that many runs share. */
  restore: RestoreContext | undefined;

  inContext(task: () => void): void {
    if (this.restore === undefined) task();
    else this.restore(task);
  }

  end(): void {
    this.stopInboundTimer?.();
    this.leaveInbound?.();
    this.leaveSignal?.();
  }

  /** Aborts the work of the attempt, in the async context of the run. */
  abortWork(reason: unknown): void {
    const { abort } = this;
    if (abort === undefined) return;
    this.abort = undefined;
    this.inContext(() => abort.abort(reason));
  }
}
