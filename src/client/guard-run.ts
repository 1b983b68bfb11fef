import type { CancelTask } from "../core/clock.js";
import type { Decision } from "../core/decision.js";
import type { Permit } from "../core/permit.js";
import { type Priority, priorityRank } from "../core/priority.js";
import type { Reason } from "../core/reasons.js";
import { isRefusal, type Refusal, refusal } from "../core/refusal.js";
import type { RetryRules } from "../core/retry.js";
import { isQueued, type Queued } from "../core/turn.js";
import { GuardRejectedError } from "../grpc/guard-rejection.js";
import { GuardLife } from "./guard-life.js";
import type { GuardRetry } from "./guard-retry.js";
import { type GuardTimer, Timed } from "./guard-timer.js";
import { GuardTurn, ShadowPlace, type Waited } from "./guard-turn.js";

/** Guarded work, from the question whether it may begin to its last attempt. */
export class GuardRun<T> extends GuardLife<T> {
  /** The place in the bulkhead, for the attempt that begins. */
  #held: Permit | undefined = undefined;
  #waiting: Queued | undefined = undefined;
  #attemptTime: AttemptTime | undefined = undefined;
  #rules: RetryRules | undefined = undefined;
  #stopBackoff: CancelTask | undefined = undefined;
  /** How long the run waited for the attempt that begins, and when the budget allowed it. */
  #delayMs = 0;
  #withdrawnMs = Number.NaN;

  protected override begin(): void {
    const { room, clock, retry, timer } = this.plan;
    if (room.closed) {
      this.closed();
      return;
    }
    const timed =
      timer !== undefined || retry !== undefined || this.deadlineMs !== Number.POSITIVE_INFINITY;
    const nowMs = timed ? clock.hold() : 0;
    try {
      if (!this.follow(nowMs)) return;
      if (retry !== undefined && retry.mode !== "off") retry.budget?.call();
      if (!this.#enter()) return;
    } finally {
      if (timed) clock.release();
    }
    this.#launch();
  }

  protected override released(): void {
    if (this.#waiting !== undefined) {
      this.#waiting.leave();
      this.#waiting = undefined;
      this.plan.room.leave(this.closed);
    }
    this.#stopBackoff?.();
    this.#stopBackoff = undefined;
    this.#stopAttemptTime();
  }

  /** True when the attempt may begin now; else the run waits, or has ended. */
  #enter(): boolean {
    const { plan, asked } = this;
    const { bulkhead, breaker } = plan;
    if (bulkhead === undefined || bulkhead.mode === "off") return this.#pass();
    const place = bulkhead.of(asked?.key);
    const rank = priorityRank[this.#priority];
    const byMs = Math.min(this.dueMs, this.deadlineMs);
    if (bulkhead.mode === "observe") {
      this.#held = new ShadowPlace(place, [rank, byMs, asked?.weight ?? 1], {
        queued: (waitMs) => this.#decide("bulkhead", "queue", false, { waitMs }),
        refused: (would) => this.#decide("bulkhead", "reject", false, would),
      });
      return this.#pass();
    }
    if (breaker !== undefined && breaker.modeFor(asked?.key) === "enforce") {
      // Who would be refused behind the queue need not stand in it.
      const refused = breaker.check(asked?.key);
      if (refused !== undefined) return this.#refused("breaker", refused);
    }
    const turn = plan.nextTurn;
    const entry = place.enter(rank, byMs, turn.onTurn, asked?.weight ?? 1);
    if (isQueued(entry)) return this.#wait(entry, turn);
    if (isRefusal(entry)) return this.#refused("bulkhead", entry);
    this.#held = entry;
    return this.#pass();
  }

  get #priority(): Priority {
    return this.asked?.priority ?? this.inbound?.priority ?? "normal";
  }

  #wait(entry: Queued, turn: GuardTurn): false {
    const { plan } = this;
    plan.nextTurn = new GuardTurn();
    this.#waiting = entry;
    plan.room.enter(this.closed);
    // Nothing in it throws or rejects.
    void turn.wait().then((waited) => this.#turned(waited));
    return false;
  }

  #turned({ turn, waitedMs }: Waited): void {
    if (this.over) {
      if (!isRefusal(turn)) turn.settle("ignored");
      return;
    }
    this.#waiting = undefined;
    this.plan.room.leave(this.closed);
    this.#decide("bulkhead", "queue", true, { waitMs: waitedMs });
    if (isRefusal(turn)) {
      // The queue has a timer of its own, and may be the first to find that the time of the run is up.
      const ownTime = turn.reason === "DEADLINE_EXPIRED" && this.dueMs <= this.deadlineMs;
      if (ownTime) this.expire();
      else this.#refused("bulkhead", turn);
      return;
    }
    this.#held = turn;
    if (this.#pass()) this.#launch();
  }

  /** Behind the queue, so that waiting there is neither slowness nor an expired probe. */
  #pass(): boolean {
    const { breaker } = this.plan;
    const mode = breaker?.modeFor(this.asked?.key) ?? "off";
    if (breaker === undefined || mode === "off") return true;
    const entry = breaker.acquire(this.asked?.key, this.#priority === "critical");
    if (!isRefusal(entry)) {
      this.permit = entry;
      return true;
    }
    if (mode === "observe") {
      this.#decide("breaker", "reject", false, entry);
      return true;
    }
    this.#held?.settle("ignored");
    this.#held = undefined;
    return this.#refused("breaker", entry);
  }

  /** An attempt that may not begin ends the run: with what the attempt before failed with, if there was one. */
  #refused(policy: Decision["policy"], refused: Refusal): false {
    const { last } = this;
    if (last === undefined) {
      this.cut(policy, "reject", refused, "ignored");
      return false;
    }
    this.#decide(policy, "reject", true, refused);
    const { retry } = this.plan;
    retry?.budget?.giveBack(this.#withdrawnMs);
    if (retry !== undefined) this.#stop(retry, refused.reason);
    this.fail(last.error);
    return false;
  }

  #launch(): void {
    const { plan } = this;
    const held = this.#held;
    this.#held = undefined;
    this.attempts += 1;
    const number = this.attempts;
    this.current = number;
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
    let made: T | PromiseLike<T>;
    try {
      made = this.span === undefined ? this.#work() : this.#tracedWork(number);
    } catch (error) {
      failed(error);
      return;
    }
    if (made instanceof Promise) made.then(succeeded, failed);
    else if (isThenable(made)) Promise.resolve(made).then(succeeded, failed);
    else succeeded(made);
  }

  #work(): T | PromiseLike<T> {
    const { work } = this;
    return work.length === 0 ? (work as () => T | PromiseLike<T>)() : work(this.signal());
  }

  #tracedWork(number: number): T | PromiseLike<T> {
    const startedAtMs = this.plan.clock.now();
    const span = this.span?.attempt({ number, delayMs: this.#delayMs, startedAtMs });
    this.attemptSpan = span;
    return span === undefined ? this.#work() : span.run(() => this.#work());
  }

  #failed(error: unknown): void {
    const { permit, plan, attemptSpan } = this;
    this.current = 0;
    this.permit = undefined;
    this.attemptSpan = undefined;
    this.#stopAttemptTime();
    permit?.settle(plan.breaker?.outcomeOf(error) ?? "failure");
    attemptSpan?.end(plan.clock.now(), { error });
    this.#judge(error);
  }

  #startAttemptTime(timer: GuardTimer): void {
    const time = new AttemptTime(() => {
      const detail = `no result of attempt ${this.attempts} within ${timer.ms} ms`;
      const refused = refusal("WORK_TIMEOUT", detail);
      const error = new GuardRejectedError(this.plan.name, refused);
      this.#attemptTime = undefined;
      this.#decide("timeouts", "expire", true, refused);
      this.abandon(error, "failure");
      this.abort(error);
      this.inContext(() => this.#judge(error));
    });
    this.#attemptTime = time;
    timer.start(time, this.plan.clock.now());
  }

  #stopAttemptTime(): void {
    if (this.#attemptTime === undefined) return;
    this.plan.attemptTimer?.stop(this.#attemptTime);
    this.#attemptTime = undefined;
  }

  /** Another attempt, or the end. */
  #judge(error: unknown): void {
    const { retry, clock } = this.plan;
    if (this.over) return;
    if (retry === undefined || retry.mode === "off") {
      this.fail(error);
      return;
    }
    const nowMs = clock.now();
    this.#rules ??= retry.rules();
    const failed = retry.judge(error, {
      attempts: this.attempts,
      remainingMs: Math.min(this.dueMs, this.deadlineMs) - nowMs,
      depth: this.inbound?.retryDepth ?? 0,
    });
    if (failed.wanted === true) retry.budget?.failure();
    const decision = this.#rules.decide(failed);
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
    this.#decide("retry", "retry", enforced, { waitMs: delayMs });
    if (enforced) this.#backOff(error, delayMs, nowMs);
    else this.fail(error);
  }

  #backOff(error: unknown, delayMs: number, withdrawnMs: number): void {
    const { clock, retry, room } = this.plan;
    this.last = { error };
    this.#delayMs = delayMs;
    this.#withdrawnMs = withdrawnMs;
    const { closed } = this;
    if (room.closed) {
      closed();
      return;
    }
    const stopTimer = clock.schedule(delayMs, () => {
      this.#stopBackoff = undefined;
      room.leave(closed);
      if (this.#enter()) this.#launch();
    });
    room.enter(closed);
    this.#stopBackoff = () => {
      room.leave(closed);
      stopTimer();
      retry?.budget?.giveBack(withdrawnMs);
    };
  }

  #stop(retry: GuardRetry, reason: Reason, detail?: string): void {
    retry.counts.stopped += 1;
    const enforced = retry.mode === "enforce";
    this.#decide("retry", "stop", enforced, detail === undefined ? { reason } : { reason, detail });
  }

  #decide(
    policy: Decision["policy"],
    verdict: Decision["verdict"],
    enforced: boolean,
    { reason, detail, waitMs }: Partial<Pick<Decision, "reason" | "detail" | "waitMs">>,
  ): void {
    const atMs = this.plan.clock.now();
    this.decide({
      policy,
      verdict,
      enforced,
      atMs,
      ...(reason === undefined ? {} : { reason }),
      ...(detail === undefined ? {} : { detail }),
      ...(waitMs === undefined ? {} : { waitMs }),
    });
  }
}

/** The time of one attempt. */
class AttemptTime extends Timed {
  readonly #expired: () => void;

  constructor(expired: () => void) {
    super();
    this.#expired = expired;
  }

  override expire(): void {
    this.#expired();
  }
}

function isThenable<T>(made: T | PromiseLike<T>): made is PromiseLike<T> {
  return (
    ((typeof made === "object" && made !== null) || typeof made === "function") && "then" in made
  );
}
