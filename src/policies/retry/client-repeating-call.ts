import {
  connectivityState,
  type Metadata,
  type NextCall,
  status as Status,
  type StatusObject,
} from "@grpc/grpc-js";
import type { CancelTask } from "../../core/clock.js";
import type { Reason, Verdict } from "../../core/decision.js";
import { ask, type ReadAnswer, yesOrNo } from "../../core/user-code.js";
import type { ReplayAttempt } from "../../grpc/client/replay-attempt.js";
import { ReplayableCall } from "../../grpc/client/replayable-call.js";
import type { CallRecord, OptionsWithOwn } from "../../grpc/context/call-record.js";
import type { Environment } from "../../grpc/environment.js";
import { endedByClosing } from "../../grpc/status/local.js";
import type { Failure } from "../../grpc/status/outcome.js";
import { handlerNotRun } from "../../grpc/status/rejection.js";
import { retriesExhausted } from "../../grpc/status/relay.js";
import type { ClientListener } from "../../grpc/types.js";
import type { RetryBudget } from "./budget.js";
import type { RetryPolicy } from "./client-policy.js";
import { type FailedAttempt, qualifies } from "./rules.js";

/** How long a call without a deadline waits for a connection before an attempt, unless `connectionMs` says otherwise. */
const patienceMs = 2_000;

/** What of a call's time is kept for the attempt behind such a wait. */
const leastAttemptMs = 10;

/** What calls with extra attempts have in common, whether these come one behind the other or side by side. */
export abstract class RepeatingCall extends ReplayableCall {
  protected readonly policy: RetryPolicy;
  /** As it was when the call began: one call is not half observed. */
  protected readonly enforced: boolean;
  /** What the last attempt on the wire ended with. */
  protected last: { readonly status: StatusObject; readonly attempt: ReplayAttempt } | undefined;
  protected readonly environment: Environment;
  /** `connectionMs` of the method's timeouts. */
  protected readonly connectionMs: number | undefined;
  #stopWaiting: CancelTask | undefined;
  /** No attempt follows, and layers above need not try either. */
  #gaveUp = false;

  constructor(
    options: OptionsWithOwn,
    nextCall: NextCall,
    record: CallRecord,
    policy: RetryPolicy,
    environment: Environment,
    connectionMs: number | undefined,
  ) {
    super(options, nextCall, record, policy.options);
    this.connectionMs = connectionMs;
    this.policy = policy;
    this.environment = environment;
    this.enforced = policy.mode === "enforce";
  }

  override start(metadata: Metadata, listener?: Partial<ClientListener>): void {
    // Where nothing else tells the target, the first attempt does, and the budget is the target's.
    super.start(metadata, listener);
    this.budget?.call();
  }

  protected get budget(): RetryBudget | undefined {
    return this.policy.budgetOf(this.record);
  }

  protected override released(): void {
    this.#stopWaiting?.();
    this.#stopWaiting = undefined;
  }

  protected override succeeded(_attempt: ReplayAttempt): void {
    this.budget?.success();
  }

  /** The channel is closed, so that no attempt can follow. */
  protected closing(status: StatusObject): boolean {
    return this.record.connection?.closed === true || endedByClosing(status);
  }

  /**
   * Runs `then` in the caller's context after `delayMs`, and once the channel is not failing to connect, unless the call
   * ends or is committed before. While the channel fails, grpc-js ends every call at once with what the last attempt
   * to connect ended with: an attempt then would be spent in vain.
   *
   * @param without Called instead, with the reason, when the channel did not connect in time.
   * @param withdrawnMs When the budget allowed what follows; it gets it back when that is called off.
   */
  protected waitThen(
    delayMs: number,
    then: (waitedMs: number) => void,
    without: (reason: Reason) => void,
    withdrawnMs?: number,
  ): void {
    this.released();
    const giveBack = () => {
      if (withdrawnMs !== undefined) this.budget?.giveBack(withdrawnMs);
    };
    if (this.ended) {
      giveBack();
      return;
    }
    const { record } = this;
    const { clock } = record;
    const { pendingCalls } = this.environment;
    const startedAtMs = clock.now();
    const end = (closed: StatusObject) => {
      if (this.inFlight > 0) this.released();
      else this.finish(closed);
    };
    let stopTimer: CancelTask = () => {};
    let stopWatching = () => {};
    const leave = () => {
      pendingCalls.leave(end);
      stopTimer();
      stopWatching();
    };
    const goOn = (task: () => void) => {
      this.#stopWaiting = undefined;
      leave();
      // The status came in whatever context the connection was opened in; the attempt is our caller's.
      record.restore(task);
    };
    let patience: { readonly untilMs: number; readonly reason: Reason } | undefined;
    const due = () => {
      const nowMs = clock.now();
      const { connection } = record;
      if (connection === undefined || !failing(connection.state)) {
        goOn(() => then(patience === undefined ? delayMs : nowMs - startedAtMs));
        return;
      }
      if (patience === undefined) {
        patience = this.#patience(nowMs);
        this.tell("queue", { reason: "RETRY_AWAITS_CONNECTION" });
      }
      const { untilMs, reason } = patience;
      stopTimer = clock.schedule(Math.max(0, untilMs - nowMs), () => {
        giveBack();
        goOn(() => without(reason));
      });
      stopWatching = connection.subscribe((state) => {
        if (failing(state) || state === connectivityState.SHUTDOWN) return;
        stopWatching();
        stopTimer();
        // Not from inside the change: grpc-js is still telling others of it.
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

  /** Until when a call waits for a connection before its next attempt, and why no longer. */
  #patience(nowMs: number): { readonly untilMs: number; readonly reason: Reason } {
    const lastMs = this.record.deadlineMs - leastAttemptMs;
    const untilMs =
      lastMs === Number.POSITIVE_INFINITY
        ? nowMs + (this.connectionMs ?? patienceMs)
        : Math.min(nowMs + (this.connectionMs ?? Number.POSITIVE_INFINITY), lastMs);
    return { untilMs, reason: untilMs < lastMs ? "CONNECTION_TIMEOUT" : "RETRY_PAST_DEADLINE" };
  }

  /** Why no attempt follows a failure behind which none can, by the rules for those behind which one could. */
  protected abstract stopsBehind(failed: FailedAttempt): Reason;

  /** The caller has seen some of the response, or the request is no longer kept. */
  protected override afterCommittedFailure(attempt: ReplayAttempt, failure: Failure): boolean {
    if (this.closing(failure.status)) return false;
    const reason = this.stopsBehind({ ...this.#known(attempt, failure), replayable: false });
    if (reason !== "RETRY_NOT_ELIGIBLE") this.stop(reason);
    return false;
  }

  /**
   * What is known of a failed attempt. Takes a token from the budget where the failure is of that kind, unless the
   * attempt has `delivered` part of a response that goes on.
   */
  protected judge(attempt: ReplayAttempt, failure: Failure, delivered = false): FailedAttempt {
    const { policy } = this;
    const failed = this.#known(attempt, failure);
    // What a hedge may follow is what the hedges' own codes say.
    const codes = policy.hedge?.nonFatalCodes ?? policy.options.codes;
    const held = attempt.record.heldUp === true;
    const unwanted = failure.status.code === Status.OK;
    if (!unwanted && !delivered && !held && qualifies(failed, { codes })) {
      const { startedAtMs } = attempt.record;
      this.budget?.failure({ ...failure.ending(), startedAtMs });
    }
    return failed;
  }

  #known(attempt: ReplayAttempt, failure: Failure): FailedAttempt {
    const { record, policy } = this;
    const { code, origin, pushback, retryInfoMs, relayed } = failure;
    return {
      code,
      origin,
      // Where the response has just come on, the attempt that brought it there is the first of the next.
      attempts: Math.max(1, record.attemptsInVain),
      trailersOnly: !attempt.sawHeaders,
      pushback,
      retryInfoMs,
      handlerNotRun: handlerNotRun(failure.rejection),
      wanted: this.#wanted(attempt, failure),
      idempotent: policy.idempotent(record),
      relayed,
      depth: record.inbound?.retryDepth ?? 0,
      remainingMs: record.deadlineMs - record.clock.now(),
      usualMs: record.usual?.quantile(0.5),
      replayable: this.replayable,
    };
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

  protected override leftToRun({ record: { number } }: ReplayAttempt): void {
    this.tell("skip", { reason: "RESET_BUDGET", detail: `attempt ${number} runs out` });
  }

  /** Notes that no attempt follows, and that layers above need not try either. */
  protected stop(reason: Reason, detail?: string): void {
    // A call of one attempt that could not be repeated, or was to have one only, has used up nothing.
    const alone = reason === "RETRY_COMMITTED" || reason === "RETRY_ATTEMPTS_SPENT";
    const untried = alone && this.record.attemptCount === 1;
    // A client that was closed here says nothing of what another instance of this service could do.
    if (this.enforced && !untried && reason !== "CLOSED") this.#gaveUp = true;
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

  /** Asks a function of the user's; when it fails, that is reported, and `otherwise` is the answer. */
  protected ask<T, F>(
    question: () => unknown,
    read: ReadAnswer<T>,
    otherwise: F,
    where: string,
  ): T | F {
    const { report } = this.environment;
    return ask(question, read, otherwise, report, `${this.policy.name}.${where}`);
  }

  #wanted({ record }: ReplayAttempt, { status, origin }: Failure): boolean | undefined {
    const { retryStatus } = this.policy.judgement;
    if (retryStatus === undefined || status.code === Status.OK) return undefined;
    const failed = { ...status, origin, attempt: record.number };
    return this.ask(() => retryStatus(failed), yesOrNo, undefined, "retryStatus");
  }
}

/** Whether an attempt would fail at once, or as soon as the attempt to connect that is under way does. */
function failing(state: connectivityState | undefined): boolean {
  return state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.CONNECTING;
}
