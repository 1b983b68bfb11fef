import type { Decision } from "../core/decision.js";
import { heldUp } from "../core/expiry.js";
import type { Reason } from "../core/reasons.js";
import { type Refusal, refusal } from "../core/refusal.js";
import type { RetryRules } from "../core/retry.js";
import type { Queued } from "../core/turn.js";
import { begun } from "../core/user-code.js";
import { GuardRejectedError } from "../grpc/guard-rejection.js";
import { GuardAdmission } from "./guard-admission.js";
import type { GuardRetry } from "./guard-retry.js";
import type { GuardTime, GuardTimer } from "./guard-timer.js";
import type { GuardTrace } from "./guard-trace.js";

/** Guarded work, from its first attempt to its last. */
export class GuardRun<T> extends GuardAdmission<T> {
  #queued: Queued | undefined = undefined;
  #repeat: Repeat | undefined = undefined;
  #attemptTime: GuardTime | undefined = undefined;

  protected override begin(): void {
    const { room, clock, retry, timer } = this.plan;
    const queued = this.#queued;
    if (queued !== undefined) {
      this.queue(queued, this.plan.nextTurn);
      return;
    }
    if (room.closed) {
      this.close();
      return;
    }
    const timed =
      timer !== undefined || retry !== undefined || this.inbound?.deadlineMs !== undefined;
    const nowMs = timed ? clock.hold() : 0;
    try {
      if (!this.follow(nowMs)) return;
      if (retry !== undefined && retry.mode !== "off") retry.budget?.call();
      if (!this.enter()) return;
    } finally {
      if (timed) clock.release();
    }
    this.launch();
  }

  /** Once, for a run that stands in the queue already, with the next turn of the plan. */
  startQueued(entry: Queued): Promise<T> {
    this.#queued = entry;
    return this.start();
  }

  protected override released(): void {
    super.released();
    this.#stopAttemptTime();
  }

  protected override get earlier(): { readonly error: unknown } | undefined {
    return this.#repeat;
  }

  /** An attempt that may not begin ends the run: with what the attempt before failed with, if there was one. */
  protected override refused(policy: Decision["policy"], refused: Refusal): false {
    const repeat = this.#repeat;
    if (repeat === undefined) {
      this.cut(policy, "reject", refused, "ignored");
      return false;
    }
    this.decide(policy, "reject", true, refused);
    repeat.retry.budget?.giveBack(repeat.withdrawnMs);
    if (this.over) return false;
    this.#stop(repeat.retry, refused.reason);
    this.fail(repeat.error);
    return false;
  }

  protected override launch(): void {
    const { plan } = this;
    const held = this.held;
    this.held = undefined;
    if (this.over) {
      // Somebody who was told of how it got here has ended the run.
      const { permit } = this;
      this.permit = undefined;
      permit?.settle("ignored");
      held?.settle("ignored");
      return;
    }
    this.attempts += 1;
    const number = this.attempts;
    this.current = number;
    this.begun();
    if (plan.attemptTimer !== undefined) this.#startAttemptTime(plan.attemptTimer);
    // Work that was given up settles its own place, and nothing else.
    const succeeded = (value: T): void => {
      if (this.current === number) this.succeed(value);
      else plan.counts.abandoned -= 1;
      held?.settle("success");
    };
    const failed = (error: unknown): void => {
      if (this.current === number) this.#failed(error);
      else plan.counts.abandoned -= 1;
      held?.settle("failure");
    };
    let made: T | Promise<T>;
    try {
      made = this.trace === undefined ? this.#work() : this.#tracedWork(this.trace);
      // Within: what only looks like a promise throws here.
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

  #work(): T | Promise<T> {
    return begun(this.work, () => this.signal());
  }

  #tracedWork(trace: GuardTrace): T | Promise<T> {
    const delayMs = this.#repeat?.delayMs ?? 0;
    return trace.attempt(this.attempts, delayMs, this.plan.clock.now(), () => this.#work());
  }

  #failed(error: unknown): void {
    const { permit, plan } = this;
    this.current = 0;
    this.permit = undefined;
    this.#stopAttemptTime();
    permit?.settle(plan.breaker?.outcomeOf(error) ?? "failure");
    this.trace?.attemptEnded(plan.clock.now(), { error });
    this.#judge(error);
  }

  #startAttemptTime(timer: GuardTimer): void {
    const expire = (_timer: GuardTimer, lateMs: number) => {
      const held = heldUp(lateMs);
      this.#attemptTime = undefined;
      const detail = `no result of attempt ${this.attempts} within ${timer.ms} ms`;
      const refused = refusal("WORK_TIMEOUT", detail);
      const error = new GuardRejectedError(this.plan.name, refused);
      this.decide("timeouts", "expire", true, refused);
      if (this.over) return;
      this.abandon(error, held ? "ignored" : "failure");
      this.bonds?.callOff(error);
      if (this.bonds === undefined) this.#judge(error, held);
      else this.bonds.inContext(() => this.#judge(error, held));
    };
    this.#attemptTime = timer.start({ expire }, this.plan.clock.now());
  }

  #stopAttemptTime(): void {
    if (this.#attemptTime === undefined) return;
    this.plan.attemptTimer?.stop(this.#attemptTime);
    this.#attemptTime = undefined;
  }

  /** Another attempt, or the end. `held`: its time was over while this process was held up. */
  #judge(error: unknown, held = false): void {
    const { retry, clock } = this.plan;
    if (this.over) return;
    if (retry === undefined || retry.mode === "off") {
      this.fail(error);
      return;
    }
    const nowMs = clock.now();
    const rules = this.#repeat?.rules ?? retry.rules();
    const failed = retry.judge(error, {
      attempts: this.attempts,
      remainingMs: this.byMs - nowMs,
      usualMs: this.plan.breaker?.usualMs(this.asked?.key),
      depth: this.inbound?.retryDepth ?? 0,
    });
    // Whether it is tried again was for the user to say, who may have ended the run instead.
    if (this.over) return;
    if (failed.wanted === true && !held) retry.budget?.failure();
    const decision = rules.decide(failed);
    const refused = decision.kind === "retry" ? retry.budget?.tryWithdraw() : undefined;
    if (decision.kind === "stop" || refused !== undefined) {
      const reason = decision.kind === "stop" ? decision.reason : "RETRY_BUDGET";
      // What is never retried is no decision of ours.
      if (reason !== "RETRY_NOT_ELIGIBLE") this.#stop(retry, reason, refused?.detail);
      this.fail(error);
      return;
    }
    const { delayMs } = decision;
    const enforced = retry.mode === "enforce";
    retry.counts.retried += 1;
    this.decide("retry", "retry", enforced, { waitMs: delayMs });
    if (this.over) retry.budget?.giveBack(nowMs);
    else if (!enforced) this.fail(error);
    else this.#backOff({ error, retry, rules, delayMs, withdrawnMs: nowMs });
  }

  #backOff(repeat: Repeat): void {
    const { clock, room } = this.plan;
    const { retry, delayMs, withdrawnMs } = repeat;
    this.#repeat = repeat;
    if (room.closed) {
      this.close();
      return;
    }
    const stopTimer = clock.schedule(delayMs, () => {
      this.waited();
      if (this.enter()) this.launch();
    });
    this.waitFor({
      leave() {
        stopTimer();
        retry.budget?.giveBack(withdrawnMs);
      },
    });
  }

  #stop(retry: GuardRetry, reason: Reason, detail?: string): void {
    retry.counts.stopped += 1;
    const enforced = retry.mode === "enforce";
    this.decide("retry", "stop", enforced, detail === undefined ? { reason } : { reason, detail });
  }
}

/** What an attempt that follows another goes by. */
interface Repeat {
  /** What the attempt before it failed with. */
  readonly error: unknown;
  readonly retry: GuardRetry;
  readonly rules: RetryRules;
  readonly delayMs: number;
  /** When the budget allowed it. */
  readonly withdrawnMs: number;
}
