import { type NextCall, status as Status, type StatusObject } from "@grpc/grpc-js";
import type { CancelTask } from "../core/clock.js";
import type { Verdict } from "../core/decision.js";
import { safely } from "../core/notify.js";
import type { StatusOrigin } from "../core/origin.js";
import type { Reason } from "../core/reasons.js";
import { type FailedAttempt, qualifies } from "../core/retry.js";
import type { RetryBudget } from "../core/retry-budget.js";
import type { CallRecord, OptionsWithOwn } from "../grpc/call-record.js";
import { readPushback } from "../grpc/metadata-keys.js";
import { dealtWithBelow, handlerNotRun, rejectionOf } from "../grpc/rejection.js";
import { retriesExhausted } from "../grpc/relay.js";
import type { ReplayAttempt } from "../grpc/replay-attempt.js";
import { ReplayableCall } from "../grpc/replayable-call.js";
import { decodeStatusDetails } from "../grpc/status-details.js";
import { codeOf } from "../grpc/status-origin.js";
import type { Surroundings } from "../grpc/surroundings.js";
import { closedStatus } from "../grpc/waiting-room.js";
import type { RetryPolicy } from "./retry-policy.js";

/** What calls with extra attempts have in common, whether these come one behind the other or side by side. */
export abstract class RepeatingCall extends ReplayableCall {
  protected readonly policy: RetryPolicy;
  /** As it was when the call began: one call is not half observed. */
  protected readonly enforced: boolean;
  protected readonly budget: RetryBudget | undefined;
  /** What the last attempt on the wire ended with. */
  protected last: { readonly status: StatusObject; readonly attempt: ReplayAttempt } | undefined;
  protected readonly surroundings: Surroundings;
  #stopWaiting: CancelTask | undefined;
  /** No attempt follows, and layers above need not try either. */
  #gaveUp = false;

  constructor(
    options: OptionsWithOwn,
    nextCall: NextCall,
    record: CallRecord,
    policy: RetryPolicy,
    surroundings: Surroundings,
  ) {
    super(options, nextCall, record, policy.options);
    this.policy = policy;
    this.surroundings = surroundings;
    this.enforced = policy.mode === "enforce";
    this.budget = policy.budgetOf(record);
    this.budget?.call();
  }

  protected override released(): void {
    this.#stopWaiting?.();
    this.#stopWaiting = undefined;
  }

  protected override succeeded(_attempt: ReplayAttempt): void {
    this.budget?.success();
  }

  /**
   * Runs `then` in the caller's context after `delayMs`, unless the call ends or is committed before.
   * @param withdrawnMs When the budget allowed what follows; it gets it back when that is called off.
   */
  protected waitThen(delayMs: number, then: () => void, withdrawnMs?: number): void {
    this.released();
    if (this.ended) {
      if (withdrawnMs !== undefined) this.budget?.giveBack(withdrawnMs);
      return;
    }
    const { record } = this;
    const { room } = this.surroundings;
    if (room.closed) {
      if (this.inFlight === 0) this.finish(closedStatus());
      return;
    }
    const end = (closed: StatusObject) => {
      if (this.inFlight > 0) this.released();
      else this.finish(closed);
    };
    const stopTimer = record.clock.schedule(delayMs, () => {
      this.#stopWaiting = undefined;
      room.leave(end);
      // The status came in whatever context the connection was opened in; the attempt is our caller's.
      record.restore(then);
    });
    room.enter(end);
    this.#stopWaiting = () => {
      room.leave(end);
      stopTimer();
      if (withdrawnMs !== undefined) this.budget?.giveBack(withdrawnMs);
    };
  }

  /** What is known of a failed attempt. Takes a token from the budget where the failure is of that kind. */
  protected judge(
    attempt: ReplayAttempt,
    status: StatusObject,
    origin: StatusOrigin,
  ): FailedAttempt {
    const { record, policy } = this;
    const rejection = rejectionOf(status);
    const said = origin === "remote";
    const relayed = said && dealtWithBelow(status.metadata, rejection);
    const failed: FailedAttempt = {
      code: codeOf(status, origin),
      origin,
      attempts: record.attempts.length,
      trailersOnly: !attempt.sawHeaders,
      pushback: said ? readPushback(status.metadata) : undefined,
      retryInfoMs: said ? decodeStatusDetails(status.metadata).retryDelayMs : undefined,
      handlerNotRun: handlerNotRun(rejection),
      wanted: this.#wanted(attempt, status, origin),
      idempotent: policy.idempotent(record),
      relayed,
      depth: record.inbound?.retryDepth ?? 0,
      remainingMs: record.deadlineMs - record.clock.now(),
      replayable: this.replayable,
    };
    // What a hedge may follow is what the hedges' own codes say.
    const codes = policy.hedge?.nonFatalCodes ?? policy.options.codes;
    if (status.code !== Status.OK && qualifies(failed, { codes })) this.budget?.failure();
    return failed;
  }

  /** An attempt that the budget allowed was refused by a policy below: it has cost the target nothing. */
  protected refund({ record: { number, startedAtMs, delayMs } }: ReplayAttempt): void {
    if (number > 1) this.budget?.giveBack(startedAtMs - delayMs);
  }

  protected override conclude(status: StatusObject, attempt?: ReplayAttempt): void {
    const told = this.#gaveUp ? retriesExhausted(status) : status;
    // A handler may pass it on, also where no context interceptor stands above to note it.
    if (!this.ended && told.code !== Status.OK) this.record.inbound?.failedBelow(told);
    super.conclude(told, attempt);
  }

  /** Notes that no attempt follows, and that layers above need not try either. */
  protected stop(reason: Reason, detail?: string): void {
    // A call of one attempt that could only not be repeated any more has used up nothing.
    const untried = reason === "RETRY_COMMITTED" && this.record.attempts.length === 1;
    if (this.enforced && !untried) this.#gaveUp = true;
    this.policy.counts.stopped += 1;
    this.tell("stop", detail === undefined ? { reason } : { reason, detail });
  }

  /** Notes a decision of this policy. */
  protected tell(
    verdict: Verdict,
    more: { readonly reason?: Reason; readonly waitMs?: number; readonly detail?: string },
  ): void {
    const { name } = this.policy;
    const atMs = this.record.clock.now();
    this.record.decide({ policy: name, verdict, enforced: this.enforced, atMs, ...more });
  }

  /** Calls a function of the user's; one that throws is reported and counts as `otherwise`. */
  protected ask<T>(otherwise: T, where: string, question: () => T): T {
    try {
      return question();
    } catch (error) {
      safely(this.surroundings.report, error, `${this.policy.name}.${where}`);
      return otherwise;
    }
  }

  #wanted(
    { record }: ReplayAttempt,
    status: StatusObject,
    origin: StatusOrigin,
  ): boolean | undefined {
    const { retryStatus } = this.policy.judgement;
    if (retryStatus === undefined || status.code === Status.OK) return undefined;
    const failed = { ...status, origin, attempt: record.number };
    return this.ask<boolean | undefined>(undefined, "retryStatus", () => retryStatus(failed));
  }
}
