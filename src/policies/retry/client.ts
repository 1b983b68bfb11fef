import type { Interceptor, NextCall, StatusObject } from "@grpc/grpc-js";
import type { CancelTask } from "../../core/clock.js";
import type { Reason } from "../../core/decision.js";
import { inMs } from "../../core/rounded.js";
import { yesOrNo } from "../../core/user-code.js";
import type { Attempt } from "../../grpc/client/attempt.js";
import { type MessageCopy, readableLater } from "../../grpc/client/kept-request.js";
import { interceptorOf, type RepeatPart } from "../../grpc/client/parts.js";
import type { Segment } from "../../grpc/client/pipeline-call.js";
import {
  type PolicyOptions,
  type StandaloneOptions,
  splitOptions,
} from "../../grpc/client/policy.js";
import { type OptionsWithRecord, recordKey } from "../../grpc/context/call-record.js";
import type { Environment } from "../../grpc/environment.js";
import { Failure } from "../../grpc/status/outcome.js";
import { rejectionOf } from "../../grpc/status/rejection.js";
import type { MessageContext } from "../../grpc/types.js";
import type { AttemptKind } from "./budget-counts.js";
import { HedgedCall, unanswered } from "./client-hedged-call.js";
import { RetryPolicy, type RetryPolicyOptions, resolveJudgement } from "./client-policy.js";
import { endText, RepeatingCall } from "./client-repeating-call.js";
import {
  type HedgeOptions,
  type RetryOptions,
  resolveHedgeOptions,
  resolveRetryOptions,
} from "./options.js";
import {
  type FailedAttempt,
  kindAfter,
  notAfter,
  type RetryDecision,
  RetryRules,
  stopText,
} from "./rules.js";

/** The policies that make extra attempts of a method's calls. */
export interface AttemptPolicies {
  readonly retry: RetryPolicy | undefined;
  readonly hedge: RetryPolicy | undefined;
  /** `connectionMs` of the method's timeouts, in milliseconds. */
  readonly connectionMs?: number | undefined;
}

/**
 * Makes the extra attempts of calls: hedges where the method has them and is known to be idempotent, else retries. A
 * call ends with the status of its last attempt that was sent.
 */
export function repeatPart(
  environment: Environment,
  { retry: retries, hedge, connectionMs }: AttemptPolicies,
): RepeatPart | undefined {
  if (retries === undefined && hedge === undefined) return undefined;
  const make: RepeatPart["make"] = (options, nextCall, segment) => {
    const record = options[recordKey];
    const hedges =
      hedge !== undefined && hedge.mode !== "off" && hedge.idempotent(record) === true
        ? hedge
        : undefined;
    const retried = retries !== undefined && retries.mode !== "off" ? retries : undefined;
    if (hedges !== undefined && (hedges.mode === "enforce" || retried === undefined)) {
      return new HedgedCall(options, nextCall, segment, hedges, environment, connectionMs);
    }
    // Hedges in mode `observe` do not replace retries.
    if (retried !== undefined) {
      return new RetriedCall(
        options,
        nextCall,
        segment,
        retried,
        environment,
        connectionMs,
        hedges,
      );
    }
    return undefined;
  };
  return { at: "repeat", make };
}

/** A call that is retried after a failed attempt, by {@link RetryRules}. */
class RetriedCall extends RepeatingCall {
  /** Made at the first failure. */
  #rules: RetryRules | undefined;
  /** Hedges in mode `observe`: their decisions are noted. */
  readonly #observed: RetryPolicy | undefined;
  #stopObserving: CancelTask | undefined;
  /** The last response that was not wanted: the call ends with it if there is no better one. */
  #unwanted: { readonly attempt: Attempt; readonly status: StatusObject } | undefined;
  /** The first request of a call that may be resumed. */
  #request: MessageCopy | undefined;
  /** The position of the last message of its response. */
  #token: { readonly token: unknown } | undefined;
  /** The committed attempt has brought a message with a new position. */
  #delivered = false;
  /** As what the running attempt was taken from the budget. */
  #paid: AttemptKind | undefined;

  constructor(
    options: OptionsWithRecord,
    nextCall: NextCall,
    segment: Segment,
    policy: RetryPolicy,
    environment: Environment,
    connectionMs: number | undefined,
    observed: RetryPolicy | undefined,
  ) {
    super(options, nextCall, segment, policy, environment, connectionMs);
    this.#observed = observed;
  }

  protected override begin(): void {
    super.begin();
    const delayMs = this.#observed?.hedgeDelayMs(this.record);
    if (delayMs === undefined || this.ended) return;
    const { record } = this;
    this.#stopObserving = record.clock.schedule(delayMs, () => {
      const atMs = record.clock.now();
      const detail = unanswered(delayMs);
      record.decide({
        policy: "hedge",
        verdict: "hedge",
        enforced: false,
        atMs,
        waitMs: delayMs,
        detail,
      });
    });
  }

  protected override released(): void {
    super.released();
    if (this.ended || !this.replayable) this.#stopObserving?.();
  }

  protected override succeeded(attempt: Attempt): void {
    super.succeeded(attempt);
    const { clock } = this.record;
    this.#observed?.latencyOf(this.record).record(clock.now() - attempt.attempt.startedAtMs);
  }

  override sendMessageWithContext(context: MessageContext, message: unknown): void {
    if (this.#resumable) {
      this.#request = readableLater(this.options.method_definition, message);
    }
    super.sendMessageWithContext(context, message);
  }

  protected override afterFailure(attempt: Attempt, failure: Failure): void {
    const { status, origin, rejection } = failure;
    const { last } = this;
    const unwanted = this.#unwanted;
    const notSent = origin === "local-policy" || origin === "local-setup";
    if (notSent && this.#paid !== undefined) this.refund(attempt, this.#paid);
    if (notSent && unwanted !== undefined) this.accept(unwanted.attempt, unwanted.status);
    else if (notSent && last !== undefined) {
      // A policy below refused the retry, or it could not be set up. The call ends with what the server said before.
      const { details } = status;
      this.stop(rejection?.reason ?? "RETRY_NOT_ELIGIBLE", `the retry was not sent: ${details}`);
      this.conclude(last.status, last.attempt);
    } else {
      this.last = { status, attempt };
      const failed = this.judge(attempt, failure);
      if (!this.#goOn(failed, status, endText(failure))) this.conclude(status, attempt);
    }
  }

  protected override singleHeaders(): "held" | "final" | "shown" {
    if (!this.enforced) return "shown";
    const { policy, record } = this;
    const { maxAttempts, maxDepth } = policy.options;
    // After headers, the server has begun to answer: only a method that may run twice is retried.
    const possible =
      policy.idempotent(record) === true &&
      record.attemptCount < maxAttempts &&
      this.depth < maxDepth &&
      this.replayable;
    return possible ? "held" : "final";
  }

  protected override wants(message: unknown): boolean {
    const { retryResponse } = this.policy.judgement;
    if (retryResponse === undefined) return true;
    return !this.ask(() => retryResponse(message), yesOrNo, false, "retryResponse");
  }

  protected override afterUnwanted(attempt: Attempt, status: StatusObject): void {
    const answer = new Failure(status, "remote", rejectionOf(status));
    const failed = { ...this.judge(attempt, answer), unwanted: true };
    this.#unwanted = { attempt, status };
    if (!this.#goOn(failed, status, "a response that is not wanted")) {
      this.accept(attempt, status);
    }
  }

  protected override streamed(message: unknown): void {
    const { resume } = this.policy.judgement;
    if (resume === undefined || !this.#resumable) return;
    const token = this.ask(() => resume.token(message), anything, undefined, "resume.token");
    if (token === undefined) return;
    if (!Object.is(token, this.#token?.token)) this.#delivered = true;
    this.#token = { token };
  }

  protected override afterCommittedFailure(attempt: Attempt, failure: Failure): boolean {
    const { status } = failure;
    const { resume } = this.policy.judgement;
    const at = this.#token;
    if (resume === undefined || at === undefined) {
      return super.afterCommittedFailure(attempt, failure);
    }
    const next = this.ask(
      () => resume.request(this.#request?.make(), at.token),
      (request) => ({ request }),
      undefined,
      "resume.request",
    );
    if (next === undefined) return super.afterCommittedFailure(attempt, failure);
    const delivered = this.#delivered;
    if (delivered) this.#startAnew();
    // Any method may be continued behind the token: nothing is repeated.
    const failed = {
      ...this.judge(attempt, failure, delivered),
      idempotent: true,
      replayable: true,
    };
    this.last = { status, attempt };
    if (!this.#goOn(failed, status, endText(failure), delivered)) return false;
    this.resumeWith(next.request);
    return true;
  }

  protected override stopsBehind(failed: FailedAttempt): Reason {
    const decision = this.#decide(failed);
    return decision.kind === "stop" ? decision.reason : "RETRY_COMMITTED";
  }

  /** The retry that was decided on is not made, because no connection came. */
  #giveUp(reason: Reason, status: StatusObject, after: string): void {
    this.stop(reason, notAfter(after, "no connection came in time"));
    const unwanted = this.#unwanted;
    if (unwanted?.status === status) this.accept(unwanted.attempt, status);
    else this.conclude(status, this.last?.attempt);
  }

  /** The response has made progress: the attempt that continues it counts as the first attempt of a call. */
  #startAnew(): void {
    this.#delivered = false;
    this.record.progressed();
    this.#rules = undefined;
    this.budget?.call(this.record.priority);
  }

  #decide(failed: FailedAttempt): RetryDecision {
    this.#rules ??= new RetryRules(this.policy.options, this.environment.random);
    return this.#rules.decide(failed);
  }

  get #resumable(): boolean {
    return this.policy.judgement.resume !== undefined && this.record.kind === "server-stream";
  }

  /**
   * Decides about another attempt, and launches it after the wait. False when none follows.
   *
   * @param after How the last attempt ended, in words.
   * @param free The attempt is no extra load, so that the budget is not asked.
   */
  #goOn(failed: FailedAttempt, status: StatusObject, after: string, free = false): boolean {
    // A function of the user's that was asked about the status may have cancelled the call.
    if (this.ended) return true;
    if (this.closing(status)) {
      this.stop("CLOSED", notAfter(after, stopText("CLOSED", failed)));
      return false;
    }
    const decision = this.#decide(failed);
    if (decision.kind === "stop") {
      // No decision is noted for failures that are never retried: there would be too many.
      const { reason } = decision;
      if (reason !== "RETRY_NOT_ELIGIBLE") {
        this.stop(reason, notAfter(after, stopText(reason, failed)));
      }
      return false;
    }
    const kind = free ? undefined : kindAfter(failed);
    const withdrawn = kind && { atMs: this.record.clock.now(), kind };
    const refused = kind && this.budget?.tryWithdraw(this.record.priority, kind);
    this.#paid = kind;
    if (refused !== undefined) {
      this.stop("RETRY_BUDGET", notAfter(after, refused.detail));
      return false;
    }
    const { delayMs } = decision;
    this.policy.counts.retried += 1;
    const asked = typeof failed.pushback === "number" ? ", as the server asked" : "";
    this.decide("retry", {
      waitMs: delayMs,
      detail: `retry after ${after}, ${inMs(delayMs)}${asked}`,
      ...(!free && this.budget?.reason),
    });
    if (!this.enforced) return false;
    this.waitThen(
      delayMs,
      (waitedMs) => this.launch("retry", waitedMs, status),
      (reason) => this.#giveUp(reason, status, after),
      withdrawn,
    );
    return true;
  }
}

/** A token or request of the user's may be any value. */
const anything = (answer: unknown): unknown => answer;

/**
 * Retries as an interceptor of their own, with the same options for all methods.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/retries.md
 */
export function retry(options: RetryPolicyOptions & StandaloneOptions = {}): Interceptor {
  const { own, environment, rest } = splitOptions(options, "retry");
  const policy = retryPolicy(rest, own.mode, environment, "retry");
  const part = repeatPart(environment, { retry: policy, hedge: undefined });
  return interceptorOf(environment, part);
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function retryPolicy(
  given: Omit<RetryPolicyOptions, "mode">,
  mode: RetryPolicyOptions["mode"],
  environment: Environment,
  prefix: string,
  registry?: ConstructorParameters<typeof RetryPolicy>[0]["registry"],
): RetryPolicy {
  const judgement = resolveJudgement(given, prefix);
  const { retryStatus: _, retryResponse: __, resume: ___, ...rest } = given;
  const names = ["mode", "retryStatus", "retryResponse", "resume"];
  const options = resolveRetryOptions(rest, prefix, names);
  return new RetryPolicy({ options, mode: mode ?? "enforce", judgement, registry }, environment);
}

/**
 * Options of {@link hedge}.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/hedging.md
 */
export type StandaloneHedgeOptions = HedgeOptions &
  Pick<PolicyOptions, "mode"> &
  StandaloneOptions & {
    /** Idempotency, replay buffer, retry depth and budget. There are no retries. */
    readonly retry?: RetryOptions;
  };

/**
 * Hedges as an interceptor of their own, with the same options for all methods. Calls are hedged only if
 * `retry.idempotent` is true, or if they have an idempotency key that the server honours.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/hedging.md
 */
export function hedge(options: StandaloneHedgeOptions): Interceptor {
  const { own, environment, rest } = splitOptions(options, "hedge");
  const { retry: shared = {}, ...hedging } = rest;
  const policy = new RetryPolicy(
    {
      options: resolveRetryOptions(shared, "hedge.retry"),
      mode: own.mode ?? "enforce",
      hedge: resolveHedgeOptions(hedging, "hedge", ["mode", "retry"]),
    },
    environment,
  );
  const part = repeatPart(environment, { retry: undefined, hedge: policy });
  return interceptorOf(environment, part);
}
