import type { CancelTask } from "../core/clock.js";
import type { Decision } from "../core/decision.js";
import { expireAt, heldUp } from "../core/expiry.js";
import type { Outcome, Permit } from "../core/permit.js";
import { type Refusal, refusal } from "../core/refusal.js";
import { GuardRejectedError } from "../grpc/guard-rejection.js";
import type { InboundCall, InboundEnd } from "../grpc/inbound-call.js";
import { GuardBonds } from "./guard-bonds.js";
import type { GuardRunOptions } from "./guard-options.js";
import type { GuardPlan } from "./guard-plan.js";
import { neverAborted } from "./guard-signal.js";
import type { Expiring, GuardTime, GuardTimer } from "./guard-timer.js";
import type { GuardTrace } from "./guard-trace.js";

/** What a guard runs. A function that declares no parameter is called without a signal, and none is made for it. */
export type GuardedWork<T> = (signal: AbortSignal) => T | PromiseLike<T>;

/** What `current` is when the run has ended. */
const over = -1;

/**
 * The life of one run: its promise, and all that can end it beside its work. Of several ends the first counts.
 *
 * The end of a run does not end its work. The work is asked to end by its signal; what it does then is its own
 * affair, and its place in the bulkhead is taken until it does.
 */
export abstract class GuardLife<T> implements Expiring {
  protected readonly plan: GuardPlan;
  protected readonly work: GuardedWork<T>;
  protected readonly asked: GuardRunOptions | undefined;
  protected readonly inbound: InboundCall | undefined;
  protected readonly trace: GuardTrace | undefined;
  /** How many attempts have begun. */
  attempts = 0;
  /** The number of the attempt that decides the run; 0 while none does. */
  protected current = 0;
  /** The breaker's, for the current attempt. */
  protected permit: Permit | undefined = undefined;
  /** When the current attempt began, where the deadline of the inbound call may end it. */
  #begunMs = 0;
  // Of what is below, most runs have little, and each is an object of its own only where it is needed.
  protected time: GuardTime | undefined = undefined;
  /** Until when the inbound call leaves the run time, on the monotonic clock. */
  #leftUntilMs = Number.POSITIVE_INFINITY;
  #stopLeft: CancelTask | undefined = undefined;
  protected bonds: GuardBonds | undefined = undefined;
  #resolve: (value: T) => void = unsettled;
  #reject: (error: unknown) => void = unsettled;

  constructor(
    plan: GuardPlan,
    work: GuardedWork<T>,
    asked: GuardRunOptions | undefined,
    inbound: InboundCall | undefined,
    trace: GuardTrace | undefined,
  ) {
    this.plan = plan;
    this.work = work;
    this.asked = asked;
    this.inbound = inbound;
    this.trace = trace;
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

  /** What an earlier attempt failed with, while another is to follow. */
  protected abstract get earlier(): { readonly error: unknown } | undefined;

  protected get over(): boolean {
    return this.current === over;
  }

  /** By when the run must end, on the monotonic clock; `Infinity` for any time. */
  protected get byMs(): number {
    // The timer of the guard runs only where it ends first.
    return this.time?.dueMs ?? this.#leftUntilMs;
  }

  /** Lets all bound the run that may. False when it has ended by that already. */
  protected follow(nowMs: number): boolean {
    const { inbound, asked, plan } = this;
    const { timer, attemptTimer } = plan;
    const signal = asked?.signal;
    if (inbound !== undefined && !this.#followInbound(inbound, nowMs)) return false;
    if (signal !== undefined && !this.#followSignal(signal)) return false;
    if (timer !== undefined && nowMs + timer.ms < this.byMs) this.time = timer.start(this, nowMs);
    else if (this.#leftUntilMs !== Number.POSITIVE_INFINITY) this.#startLeft(nowMs);
    const aborts = (this.time ?? attemptTimer) !== undefined && this.work.length > 0;
    if (aborts || (attemptTimer !== undefined && plan.retry !== undefined)) {
      this.#bind().keepContext();
    }
    return true;
  }

  /** The signal for the attempt that begins: one that exists, where that tells all there is to tell. */
  protected signal(): AbortSignal {
    const { inbound, plan } = this;
    const given = this.asked?.signal;
    const timed = (this.time ?? plan.attemptTimer ?? this.#stopLeft) !== undefined;
    if (!timed && inbound === undefined) return given ?? neverAborted;
    if (!timed && given === undefined && inbound !== undefined) return inbound.signal;
    const abort = new AbortController();
    this.#bind().abort = abort;
    return abort.signal;
  }

  expire(timer: GuardTimer, lateMs: number): void {
    this.time = undefined;
    const { current, earlier } = this;
    const where = current > 0 ? "" : earlier === undefined ? ", not begun" : ", waiting to retry";
    const refused = refusal("WORK_TIMEOUT", `no result within ${timer.ms} ms${where}`);
    this.cut("timeouts", "expire", refused, heldUp(lateMs) ? "ignored" : "failure");
  }

  /** The weir was closed while the run waited, or before it began. */
  protected close(): void {
    this.cut("deadline", "cancel", refusal("CLOSED", "the weir is closed"), "ignored");
  }

  /** Ends the run before its work, for a reason of ours. */
  protected cut(
    policy: Decision["policy"],
    verdict: Decision["verdict"],
    refused: Refusal,
    outcome: Outcome,
  ): void {
    if (this.over) return;
    const { plan, earlier } = this;
    this.decide(policy, verdict, true, refused);
    // Whoever was told may have ended it otherwise.
    if (this.over) return;
    this.#leave(new GuardRejectedError(plan.name, refused, earlier?.error), outcome);
  }

  protected succeed(value: T): void {
    const { permit, plan } = this;
    this.permit = undefined;
    // Before anybody is told that a breaker closes: nothing ends it any more.
    this.#end();
    permit?.settle("success");
    if (this.#hasDeadline) {
      plan.breaker?.succeededIn(this.asked?.key, plan.clock.now() - this.#begunMs);
    }
    plan.retry?.budget?.success();
    this.trace?.attemptEnded(plan.clock.now());
    plan.counts.succeeded += 1;
    this.#resolve(value);
  }

  /** Ends the run with what its last attempt failed with. */
  protected fail(error: unknown): void {
    if (this.over) return;
    const { counts, name } = this.plan;
    if (error instanceof GuardRejectedError && error.guard === name) counts.rejected += 1;
    else counts.failed += 1;
    this.#end();
    this.#reject(error);
  }

  /** The current attempt is given up: its work runs on, and nobody waits for it. */
  protected abandon(error: unknown, outcome: Outcome, current = this.current): void {
    const { permit, plan } = this;
    this.permit = undefined;
    if (current > 0) plan.counts.abandoned += 1;
    if (!this.over) this.current = 0;
    permit?.settle(outcome);
    this.trace?.attemptEnded(plan.clock.now(), { error });
  }

  /** Notes a decision, and tells who wants to know. */
  decide(
    policy: Decision["policy"],
    verdict: Decision["verdict"],
    enforced: boolean,
    more: Partial<Pick<Decision, "reason" | "detail" | "waitMs">> = {},
  ): void {
    this.plan.decide(this.trace?.decisions, this.inbound, policy, verdict, enforced, more);
  }

  /** Tells the telemetry that nothing more is to come. `failed`: what the caller gets. */
  conclude(failed: { readonly error: unknown } | undefined): void {
    this.trace?.ended(this.plan.clock.now(), this.attempts, failed);
  }

  #leave(error: unknown, outcome: Outcome): void {
    const { current } = this;
    // Before anybody is told of what comes of it for the breaker: the first end counts.
    this.#end();
    this.abandon(error, outcome, current);
    this.plan.counts.rejected += 1;
    this.#reject(error);
    this.bonds?.callOff(error);
  }

  #end(): void {
    this.current = over;
    const { time } = this;
    if (time !== undefined) {
      this.time = undefined;
      this.plan.timer?.stop(time);
    }
    this.#stopLeft?.();
    this.bonds?.unfollow();
    this.released();
  }

  #bind(): GuardBonds {
    this.bonds ??= new GuardBonds();
    return this.bonds;
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
    this.#bind().followInbound(inbound, (ended) => this.#calledOff(ended));
    const leftMs = inbound.deadlineMs - nowMs;
    this.#leftUntilMs = inbound.deadlineMs - Math.min(this.plan.marginMs, leftMs / 2);
    return true;
  }

  /** The handler needs a little of its time to answer. */
  #startLeft(nowMs: number): void {
    const { clock } = this.plan;
    const dueMs = this.#leftUntilMs;
    this.#stopLeft = expireAt(clock, dueMs, dueMs - nowMs, (lateMs) =>
      this.#outOfTime("the time that the inbound call leaves is over", lateMs),
    );
  }

  #outOfTime(detail: string, lateMs: number): void {
    const outcome = heldUp(lateMs) ? "ignored" : this.#outcomeOfDeadline();
    this.cut("deadline", "expire", refusal("DEADLINE_EXCEEDED", detail), outcome);
  }

  #calledOff(end: InboundEnd): void {
    if (end === "deadline") {
      const lateMs = this.plan.clock.now() - (this.inbound?.deadlineMs ?? 0);
      this.#outOfTime("the deadline of the inbound call has passed", lateMs);
      return;
    }
    const refused = refusal("PARENT_CANCELLED", "the inbound call was cancelled");
    this.cut("deadline", "cancel", refused, "ignored");
  }

  /** An attempt begins. */
  protected begun(): void {
    if (this.#hasDeadline) this.#begunMs = this.plan.clock.now();
  }

  get #hasDeadline(): boolean {
    const { inbound, plan } = this;
    return plan.breaker !== undefined && inbound !== undefined && inbound.deadlineMs !== Infinity;
  }

  #outcomeOfDeadline(): Outcome {
    const { asked, inbound, plan } = this;
    if (plan.breaker === undefined || inbound === undefined || this.current <= 0) return "failure";
    // Clients of the toolkit leave a little before the deadline that they name: the time it had is what has passed.
    return plan.breaker.outcomeOfDeadline(asked?.key, plan.clock.now() - this.#begunMs);
  }

  #followSignal(signal: AbortSignal): boolean {
    const aborted = () => {
      if (this.over) return;
      this.decide("deadline", "cancel", true, { detail: "the signal of the run was aborted" });
      if (this.over) return;
      this.#leave(signal.reason, "ignored");
    };
    if (signal.aborted) aborted();
    else this.#bind().followSignal(signal, aborted);
    return !this.over;
  }
}

function unsettled(): void {}
