import {
  connectivityState,
  type NextCall,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import type { CancelTask } from "../../core/clock.js";
import type { Reason, Verdict } from "../../core/decision.js";
import { inMs } from "../../core/rounded.js";
import { ask, type ReadAnswer, yesOrNo } from "../../core/user-code.js";
import type { Wait, WaitObserver } from "../../core/wait.js";
import type { Attempt } from "../../grpc/client/attempt.js";
import { PipelineCall, type Segment } from "../../grpc/client/pipeline-call.js";
import type { OptionsWithRecord } from "../../grpc/context/call-record.js";
import { statusName } from "../../grpc/context/finished-call.js";
import type { Environment } from "../../grpc/environment.js";
import { endedByClosing } from "../../grpc/status/local.js";
import type { Failure } from "../../grpc/status/outcome.js";
import { handlerNotRun, isKilled } from "../../grpc/status/rejection.js";
import { retriesExhausted } from "../../grpc/status/relay.js";
import type { RetryBudget } from "./budget.js";
import type { AttemptKind } from "./budget-counts.js";
import type { RetryPolicy } from "./client-policy.js";
import { type FailedAttempt, notAfter, qualifies, stopText } from "./rules.js";

/**
 * How long a call without a deadline waits for a connection before an attempt, in milliseconds, without `connectionMs`.
 */
const connectionWaitMs = 2_000;

/** How much of a call's time is kept for the attempt after such a wait, in milliseconds. */
const leastAttemptMs = 10;

/** An attempt that the budget has allowed. */
interface Withdrawn {
  /** On the monotonic clock. */
  readonly atMs: number;
  readonly kind: AttemptKind;
}

/** What retried and hedged calls have in common. */
export abstract class RepeatingCall extends PipelineCall {
  protected readonly policy: RetryPolicy;
  /** The mode when the call began: a change of mode does not affect calls that run. */
  protected readonly enforced: boolean;
  /** The last attempt that was sent and has failed. */
  protected last: { readonly status: StatusObject; readonly attempt: Attempt } | undefined;
  protected readonly environment: Environment;
  /** `connectionMs` of the method's timeouts. */
  protected readonly connectionMs: number | undefined;
  /** Of the call's target. Absent where retries have no budget. */
  protected budget: RetryBudget | undefined;
  #stopWaiting: CancelTask | undefined;
  /** No attempt follows, and services above should not retry the call either. */
  #gaveUp = false;

  constructor(
    options: OptionsWithRecord,
    nextCall: NextCall,
    segment: Segment,
    policy: RetryPolicy,
    environment: Environment,
    connectionMs: number | undefined,
  ) {
    super(options, nextCall, segment, policy.options);
    this.connectionMs = connectionMs;
    this.policy = policy;
    this.environment = environment;
    this.enforced = policy.mode === "enforce";
  }

  protected override begin(): void {
    super.begin();
    // Now: without a channel, the target of the budget is known from the first attempt on.
    this.budget = this.policy.budgetOf(this.record);
    this.budget?.call(this.record.priority, this.nowMs);
  }

  /** How many services above are retrying the inbound call already. */
  protected get depth(): number {
    return this.record.inbound?.retryDepth ?? 0;
  }

  protected override released(): void {
    this.#stopWaiting?.();
    this.#stopWaiting = undefined;
  }

  protected override succeeded(_attempt: Attempt): void {
    this.budget?.success(this.record.priority);
  }

  /** Whether the channel is closed, so that no attempt can follow. */
  protected closing(status: StatusObject): boolean {
    return this.record.connection?.closed === true || endedByClosing(status);
  }

  /**
   * Runs `then` in the caller's async context after `delayMs`, but not before the channel has a connection or is idle.
   * While a channel cannot connect, grpc-js ends every call at once with the error of the last connect, so that an
   * attempt would be wasted. Nothing runs if the call ends, or an attempt is committed, before.
   *
   * @param without Called instead, with the reason, when the channel did not connect in time.
   * @param withdrawn When the budget allowed the attempt, and as what. It is given back if the attempt is not made.
   */
  protected waitThen(
    delayMs: number,
    then: (waitedMs: number) => void,
    without: (reason: Reason) => void,
    withdrawn?: Withdrawn,
  ): void {
    this.released();
    const giveBack = () => {
      if (withdrawn === undefined) return;
      this.budget?.giveBack(withdrawn.atMs, this.record.priority, withdrawn.kind);
    };
    if (this.ended) {
      giveBack();
      return;
    }
    const { record } = this;
    const { clock } = record;
    const { pendingCalls } = this.environment;
    const startedAtMs = clock.now();
    // Beside an attempt that runs, the call does not stand still.
    const waits = this.inFlight === 0 ? this.trace : undefined;
    let waitsFor: Pick<Wait, "kind" | "startedAtMs"> = { kind: "backoff", startedAtMs };
    const end = (closed: StatusObject) => {
      if (this.inFlight > 0) this.released();
      else this.finish(closed);
    };
    let stopTimer: CancelTask = () => {};
    let stopWatching = () => {};
    const leave = () => {
      this.#noteWait(waits, waitsFor);
      pendingCalls.leave(end);
      stopTimer();
      stopWatching();
    };
    const goOn = (task: () => void) => {
      this.#stopWaiting = undefined;
      leave();
      // The status came in the async context in which the connection was opened.
      record.restore(task);
    };
    let limit: { readonly untilMs: number; readonly reason: Reason } | undefined;
    const due = () => {
      const nowMs = clock.now();
      const { connection } = record;
      if (connection === undefined || !failing(connection.state)) {
        goOn(() => then(limit === undefined ? delayMs : nowMs - startedAtMs));
        return;
      }
      if (limit === undefined) {
        limit = this.#connectionLimit(nowMs);
        this.#noteWait(waits, waitsFor);
        waitsFor = { kind: "connection", startedAtMs: nowMs };
        const detail = `no connection: waits ${inMs(limit.untilMs - nowMs)} at most`;
        this.decide("queue", { reason: "RETRY_AWAITS_CONNECTION", detail });
      }
      const { untilMs, reason } = limit;
      stopTimer = clock.schedule(Math.max(0, untilMs - nowMs), () => {
        giveBack();
        goOn(() => without(reason));
      });
      stopWatching = connection.subscribe((state) => {
        if (failing(state) || state === connectivityState.SHUTDOWN) return;
        stopWatching();
        stopTimer();
        // Later, because grpc-js is still notifying other watchers of the change.
        stopTimer = clock.schedule(0, due);
      });
    };
    this.#stopWaiting = () => {
      leave();
      giveBack();
    };
    stopTimer = clock.schedule(delayMs, due);
    pendingCalls.enter(end, record.connection);
  }

  #noteWait(
    waits: WaitObserver | undefined,
    { kind, startedAtMs }: Pick<Wait, "kind" | "startedAtMs">,
  ): void {
    if (waits?.recording !== true) return;
    const endedAtMs = this.record.clock.now();
    waits.waited({ kind, policy: this.policy.name, startedAtMs, endedAtMs });
  }

  /** Until when the call waits for a connection before its next attempt, and the reason for which it then ends. */
  #connectionLimit(nowMs: number): { readonly untilMs: number; readonly reason: Reason } {
    const lastMs = this.record.deadlineMs - leastAttemptMs;
    const untilMs =
      lastMs === Number.POSITIVE_INFINITY
        ? nowMs + (this.connectionMs ?? connectionWaitMs)
        : Math.min(nowMs + (this.connectionMs ?? Number.POSITIVE_INFINITY), lastMs);
    return { untilMs, reason: untilMs < lastMs ? "CONNECTION_TIMEOUT" : "RETRY_PAST_DEADLINE" };
  }

  /** The reason for which a failure after the commitment is not retried, by the rules for failures before it. */
  protected abstract stopsBehind(failed: FailedAttempt): Reason;

  /** No retry is possible: the caller has seen a part of the response, or the request is no longer kept. */
  protected override afterCommittedFailure(attempt: Attempt, failure: Failure): boolean {
    if (this.closing(failure.status)) return false;
    const failed = { ...this.#known(attempt, failure), replayable: false };
    const reason = this.stopsBehind(failed);
    if (reason !== "RETRY_NOT_ELIGIBLE") {
      this.stop(reason, notAfter(endText(failure), stopText(reason, failed)));
    }
    return false;
  }

  /**
   * What is known of a failed attempt, for the rules. Takes a token from the budget if the failure counts there.
   *
   * @param delivered The attempt has delivered a part of a response that will be resumed: then it takes no token.
   */
  protected judge(attempt: Attempt, failure: Failure, delivered = false): FailedAttempt {
    const { policy } = this;
    const failed = this.#known(attempt, failure);
    // Hedges have their own list of codes.
    const codes = policy.hedge?.nonFatalCodes ?? policy.options.codes;
    const held = attempt.attempt.heldUp === true;
    const unwanted = failure.status.code === Status.OK;
    const counts = !unwanted && !delivered && !held && !isKilled(failure.rejection);
    if (counts && qualifies(failed, { codes })) {
      const { startedAtMs } = attempt.attempt;
      this.budget?.failure({ ...failure.ending(), startedAtMs }, this.record.priority);
    }
    return failed;
  }

  #known(attempt: Attempt, failure: Failure): FailedAttempt {
    const { record, policy } = this;
    const { code, origin, pushback, retryInfoMs, relayed } = failure;
    return {
      code,
      origin,
      // At least 1: a response that is resumed may have had a message since this attempt began.
      attempts: Math.max(1, record.attemptsSinceProgress),
      trailersOnly: !attempt.sawHeaders,
      pushback,
      retryInfoMs,
      handlerNotRun: handlerNotRun(failure.rejection),
      wanted: this.#wanted(attempt, failure),
      idempotent: policy.idempotent(record),
      relayed,
      depth: this.depth,
      remainingMs: record.deadlineMs - record.clock.now(),
      usualMs: record.usual?.quantile(0.5),
      replayable: this.replayable,
    };
  }

  /** A policy below refused an attempt that the budget allowed: the budget gets it back. */
  protected refund(
    { attempt: { number, startedAtMs, delayMs } }: Attempt,
    kind: AttemptKind = "extra",
  ): void {
    if (number > 1) this.budget?.giveBack(startedAtMs - delayMs, this.record.priority, kind);
  }

  protected override conclude(status: StatusObject, attempt?: Attempt): void {
    const final = this.#gaveUp ? retriesExhausted(status) : status;
    // Also noted here, because without a weir there may be no context layer above.
    if (!this.ended && final.code !== Status.OK) this.record.inbound?.failedBelow(final);
    super.conclude(final, attempt);
  }

  protected override leftToRun({ attempt: { number } }: Attempt): void {
    this.decide("skip", { reason: "RESET_BUDGET", detail: `attempt ${number} runs out` });
  }

  /** Notes that no attempt follows, and that services above should not retry the call either. */
  protected stop(reason: Reason, detail?: string): void {
    // A call that could have one attempt only was not retried: services above may retry it.
    const single = reason === "RETRY_COMMITTED" || reason === "RETRY_ATTEMPTS_SPENT";
    const untried = single && this.record.attemptCount === 1;
    // If the client was closed here, another instance of this service may still succeed.
    if (this.enforced && !untried && reason !== "CLOSED") this.#gaveUp = true;
    this.policy.counts.stopped += 1;
    this.decide("stop", detail === undefined ? { reason } : { reason, detail });
  }

  /** Notes a decision of this policy. */
  protected decide(
    verdict: Verdict,
    more: { readonly reason?: Reason; readonly waitMs?: number; readonly detail?: string },
  ): void {
    const { name } = this.policy;
    const atMs = this.record.clock.now();
    this.record.decide({ policy: name, verdict, enforced: this.enforced, atMs, ...more });
  }

  /** Calls a function of the user's. If it fails, that is reported, and the result is `otherwise`. */
  protected ask<T, F>(
    question: () => unknown,
    read: ReadAnswer<T>,
    otherwise: F,
    where: string,
  ): T | F {
    const { report } = this.environment;
    return ask(question, read, otherwise, report, `${this.policy.name}.${where}`);
  }

  #wanted({ attempt: { number } }: Attempt, { status, origin }: Failure): boolean | undefined {
    const { retryStatus } = this.policy.judgement;
    if (retryStatus === undefined || status.code === Status.OK) return undefined;
    const failed = { ...status, origin, attempt: number };
    return this.ask(() => retryStatus(failed), yesOrNo, undefined, "retryStatus");
  }
}

/** How an attempt ended, in words: `UNAVAILABLE (remote)`, or `RESOURCE_EXHAUSTED (remote, LOAD_SHED)`. */
export function endText({ status, origin, rejection }: Failure): string {
  const name = statusName(status.code);
  return rejection === undefined
    ? `${name} (${origin})`
    : `${name} (${origin}, ${rejection.reason})`;
}

/** Whether the channel cannot connect, or is trying to: an attempt would fail at once, or when that connect fails. */
function failing(state: connectivityState | undefined): boolean {
  return state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.CONNECTING;
}
