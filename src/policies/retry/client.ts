import type { Interceptor, Metadata, NextCall, StatusObject } from "@grpc/grpc-js";
import type { CancelTask } from "../../core/clock.js";
import type { Reason } from "../../core/decision.js";
import { yesOrNo } from "../../core/user-code.js";
import { type MessageCopy, readableLater } from "../../grpc/client/kept-request.js";
import { interceptorOf, type Layer } from "../../grpc/client/layers.js";
import {
  type PolicyOptions,
  type StandaloneOptions,
  splitOptions,
} from "../../grpc/client/policy.js";
import type { ReplayAttempt } from "../../grpc/client/replay-attempt.js";
import { type CallRecord, type OptionsWithOwn, recordKey } from "../../grpc/context/call-record.js";
import type { Environment } from "../../grpc/environment.js";
import { Failure } from "../../grpc/status/outcome.js";
import { rejectionOf } from "../../grpc/status/rejection.js";
import type { ClientListener, MessageContext } from "../../grpc/types.js";
import { HedgedCall } from "./client-hedged-call.js";
import { RetryPolicy, type RetryPolicyOptions, resolveJudgement } from "./client-policy.js";
import { RepeatingCall } from "./client-repeating-call.js";
import {
  type HedgeOptions,
  type RetryOptions,
  resolveHedgeOptions,
  resolveRetryOptions,
} from "./options.js";
import { type FailedAttempt, RetryRules } from "./rules.js";

/** What makes extra attempts of a method's calls. */
export interface AttemptPolicies {
  readonly retry: RetryPolicy | undefined;
  readonly hedge: RetryPolicy | undefined;
  /** How long an attempt waits for a connection, where the method has such a timeout. */
  readonly connectionMs?: number | undefined;
}

/**
 * Makes extra attempts: hedges where the method has them and is known to be idempotent, else retries. Statuses are
 * never its own: a call that is not tried again, or no longer, ends with what its last attempt on the wire ended
 * with.
 */
export function attemptsLayer(
  environment: Environment,
  { retry: retries, hedge, connectionMs }: AttemptPolicies,
): Layer | undefined {
  if (retries === undefined && hedge === undefined) return undefined;
  return (options, nextCall) => {
    const record = options[recordKey];
    const hedges =
      hedge !== undefined && hedge.mode !== "off" && hedge.idempotent(record) === true
        ? hedge
        : undefined;
    const retried = retries !== undefined && retries.mode !== "off" ? retries : undefined;
    if (hedges !== undefined && (hedges.mode === "enforce" || retried === undefined)) {
      return new HedgedCall(options, nextCall, record, hedges, environment, connectionMs);
    }
    // Hedges that are only observed must not take the retries away.
    if (retried !== undefined) {
      return new RetriedCall(options, nextCall, record, retried, environment, connectionMs, hedges);
    }
    return nextCall(options);
  };
}

/** A call whose failed attempts are followed by others, by the rules of gRFC A6 and the origin of the status. */
class RetriedCall extends RepeatingCall {
  #rules: RetryRules;
  /** Hedges that would be sent if they were not only observed. */
  readonly #observed: RetryPolicy | undefined;
  #stopObserving: CancelTask | undefined;
  /** The last response that was not what the caller wants: better than none. */
  #unwanted: { readonly attempt: ReplayAttempt; readonly status: StatusObject } | undefined;
  /** The request of a call that may be resumed, and where its response has come to. */
  #request: MessageCopy | undefined;
  #token: { readonly token: unknown } | undefined;
  /** The attempt that the caller sees has brought the response on. */
  #delivered = false;
  /** The attempt that runs was taken from the budget. */
  #paid = false;

  constructor(
    options: OptionsWithOwn,
    nextCall: NextCall,
    record: CallRecord,
    policy: RetryPolicy,
    environment: Environment,
    connectionMs: number | undefined,
    observed: RetryPolicy | undefined,
  ) {
    super(options, nextCall, record, policy, environment, connectionMs);
    this.#observed = observed;
    this.#rules = new RetryRules(policy.options, environment.random);
  }

  override start(metadata: Metadata, listener?: Partial<ClientListener>): void {
    super.start(metadata, listener);
    const delayMs = this.#observed?.hedgeDelayMs(this.record);
    if (delayMs === undefined || this.ended) return;
    const { record } = this;
    this.#stopObserving = record.clock.schedule(delayMs, () => {
      const atMs = record.clock.now();
      record.decide({ policy: "hedge", verdict: "hedge", enforced: false, atMs, waitMs: delayMs });
    });
  }

  protected override released(): void {
    super.released();
    if (this.ended || !this.replayable) this.#stopObserving?.();
  }

  protected override succeeded(attempt: ReplayAttempt): void {
    super.succeeded(attempt);
    const { clock } = this.record;
    this.#observed?.latencyOf(this.record).record(clock.now() - attempt.record.startedAtMs);
  }

  override sendMessageWithContext(context: MessageContext, message: unknown): void {
    if (this.#resumable) {
      this.#request = readableLater(this.options.method_definition, message);
    }
    super.sendMessageWithContext(context, message);
  }

  protected override afterFailure(attempt: ReplayAttempt, failure: Failure): void {
    const { status, origin, rejection } = failure;
    const { last } = this;
    const unwanted = this.#unwanted;
    // The target was not asked.
    const here = origin === "local-policy" || origin === "local-setup";
    if (here && this.#paid) this.refund(attempt);
    if (here && unwanted !== undefined) {
      this.accept(unwanted.attempt, unwanted.status);
      return;
    }
    if (here && last !== undefined) {
      // This process refused the retry, or could not set it up. The caller learns what the server said, not that.
      this.stop(rejection?.reason ?? "RETRY_NOT_ELIGIBLE");
      this.conclude(last.status, last.attempt);
      return;
    }
    this.last = { status, attempt };
    if (!this.#goOn(this.judge(attempt, failure), status)) this.conclude(status, attempt);
  }

  protected override singleHeaders(): "held" | "final" | "shown" {
    if (!this.enforced) return "shown";
    const { policy, record } = this;
    const { maxAttempts, maxDepth } = policy.options;
    // Behind headers, the server has begun to answer: only what may run twice is sent again.
    const possible =
      policy.idempotent(record) === true &&
      record.attemptCount < maxAttempts &&
      (record.inbound?.retryDepth ?? 0) < maxDepth &&
      this.replayable;
    return possible ? "held" : "final";
  }

  protected override wants(message: unknown): boolean {
    const { retryResponse } = this.policy.judgement;
    if (retryResponse === undefined) return true;
    return !this.ask(() => retryResponse(message), yesOrNo, false, "retryResponse");
  }

  protected override afterUnwanted(attempt: ReplayAttempt, status: StatusObject): void {
    const answer = new Failure(status, "remote", rejectionOf(status));
    const failed = { ...this.judge(attempt, answer), unwanted: true };
    this.#unwanted = { attempt, status };
    if (!this.#goOn(failed, status)) this.accept(attempt, status);
  }

  protected override streamed(message: unknown): void {
    const { resume } = this.policy.judgement;
    if (resume === undefined || !this.#resumable) return;
    const token = this.ask(() => resume.token(message), anything, undefined, "resume.token");
    if (token === undefined) return;
    if (!Object.is(token, this.#token?.token)) this.#delivered = true;
    this.#token = { token };
  }

  protected override afterCommittedFailure(attempt: ReplayAttempt, failure: Failure): boolean {
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
    // Continuing behind the token repeats nothing, whatever the method.
    const failed = {
      ...this.judge(attempt, failure, delivered),
      idempotent: true,
      replayable: true,
    };
    this.last = { status, attempt };
    if (!this.#goOn(failed, status, delivered)) return false;
    this.resumeWith(next.request);
    return true;
  }

  protected override stopsBehind(failed: FailedAttempt): Reason {
    const decision = this.#rules.decide(failed);
    return decision.kind === "stop" ? decision.reason : "RETRY_COMMITTED";
  }

  /** The retry that was decided on does not take place. */
  #giveUp(reason: Reason, status: StatusObject): void {
    this.stop(reason);
    const unwanted = this.#unwanted;
    if (unwanted?.status === status) this.accept(unwanted.attempt, status);
    else this.conclude(status, this.last?.attempt);
  }

  /** The response has come on: what continues it is like the call's first attempt, and counts as a call. */
  #startAnew(): void {
    this.#delivered = false;
    this.record.cameOn();
    this.#rules = new RetryRules(this.policy.options, this.environment.random);
    this.budget?.call();
  }

  get #resumable(): boolean {
    return this.policy.judgement.resume !== undefined && this.record.kind === "server-stream";
  }

  /**
   * Decides about another attempt, and launches it after its wait. False when none follows.
   *
   * @param free It is no extra load, so that the budget is not asked.
   */
  #goOn(failed: FailedAttempt, status: StatusObject, free = false): boolean {
    // Whoever was asked about the status may have cancelled the call.
    if (this.ended) return true;
    if (this.closing(status)) {
      this.stop("CLOSED");
      return false;
    }
    const decision = this.#rules.decide(failed);
    if (decision.kind === "stop") {
      // What could never be retried is no decision of ours, and telling it would drown the others.
      if (decision.reason !== "RETRY_NOT_ELIGIBLE") this.stop(decision.reason);
      return false;
    }
    const withdrawnMs = free ? undefined : this.record.clock.now();
    const refused = free ? undefined : this.budget?.tryWithdraw();
    this.#paid = !free;
    if (refused !== undefined) {
      this.stop("RETRY_BUDGET", refused.detail);
      return false;
    }
    const { delayMs } = decision;
    this.policy.counts.retried += 1;
    this.tell("retry", { waitMs: delayMs });
    if (!this.enforced) return false;
    this.waitThen(
      delayMs,
      (waitedMs) => this.launch("retry", waitedMs, status),
      (reason) => this.#giveUp(reason, status),
      withdrawnMs,
    );
    return true;
  }
}

/** A token is whatever the user's two functions make of it. */
const anything = (answer: unknown): unknown => answer;

/**
 * Retries as an interceptor of their own, with the same options for all methods.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function retry(options: RetryPolicyOptions & StandaloneOptions = {}): Interceptor {
  const { own, environment, rest } = splitOptions(options, "retry");
  const policy = retryPolicy(rest, own.mode, environment, "retry");
  const layer = attemptsLayer(environment, { retry: policy, hedge: undefined });
  return interceptorOf(environment, layer);
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function retryPolicy(
  given: Omit<RetryPolicyOptions, "mode">,
  mode: RetryPolicyOptions["mode"],
  environment: Environment,
  prefix: string,
  registry?: ConstructorParameters<typeof RetryPolicy>[0]["registry"],
): RetryPolicy {
  const { retryStatus, retryResponse, resume, ...options } = given;
  const judgement = resolveJudgement(
    {
      ...(retryStatus === undefined ? {} : { retryStatus }),
      ...(retryResponse === undefined ? {} : { retryResponse }),
      ...(resume === undefined ? {} : { resume }),
    },
    prefix,
  );
  const resolved = resolveRetryOptions(options, prefix, [
    "mode",
    "retryStatus",
    "retryResponse",
    "resume",
  ]);
  return new RetryPolicy(
    { options: resolved, mode: mode ?? "enforce", judgement, registry },
    environment,
  );
}

/** Hedges that stand alone, with what they share with retries. */
export type StandaloneHedgeOptions = HedgeOptions &
  Pick<PolicyOptions, "mode"> &
  StandaloneOptions & {
    /** Idempotency, buffers, depth and budget of the hedges; they are the only attempts there are. */
    readonly retry?: RetryOptions;
  };

/**
 * Hedges as an interceptor of their own, with the same options for all methods. Calls are hedged only where
 * `retry.idempotent` says that they may be, or an idempotency key that the server honours.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
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
  const layer = attemptsLayer(environment, { retry: undefined, hedge: policy });
  return interceptorOf(environment, layer);
}
