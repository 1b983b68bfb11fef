import type { Interceptor, NextCall, StatusObject } from "@grpc/grpc-js";
import type { CancelTask } from "../core/clock.js";
import type { Mode } from "../core/mode.js";
import type { StatusOrigin } from "../core/origin.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import type { Reason } from "../core/reasons.js";
import { type FailedAttempt, RetryRules } from "../core/retry.js";
import {
  type ResolvedRetryOptions,
  type RetryOptions,
  resolveRetryOptions,
} from "../core/retry-options.js";
import { type CallRecord, type OptionsWithOwn, withRecord } from "../grpc/call-record.js";
import { readPushback } from "../grpc/metadata-keys.js";
import { rejectionOf } from "../grpc/rejection.js";
import type { ReplayAttempt } from "../grpc/replay-attempt.js";
import { ReplayableCall } from "../grpc/replayable-call.js";
import { decodeStatusDetails } from "../grpc/status-details.js";
import type { Surroundings } from "../grpc/surroundings.js";
import { closedStatus } from "../grpc/waiting-room.js";
import { type PolicyOptions, type StandaloneOptions, splitOptions } from "./policy-options.js";

/** Retries for one method or for all, and how they take part. */
export class RetryPolicy implements ControlledPolicy {
  mode: Mode;
  readonly options: ResolvedRetryOptions;
  /** How often each decision was taken, observed ones included. */
  readonly counts = { retried: 0, stopped: 0 };

  constructor(options: ResolvedRetryOptions, mode: Mode) {
    this.options = options;
    this.mode = mode;
  }

  snapshot(): RetrySnapshot {
    return { ...this.counts };
  }
}

/** Both only grow. */
export interface RetrySnapshot {
  /** Attempts that were decided on after a failed one. */
  readonly retried: number;
  /** Failures that could have been retried by their kind, and were not. */
  readonly stopped: number;
}

/**
 * Tries a failed call again, by the rules of gRFC A6, with eligibility by the origin of the status. Statuses
 * are never its own: a call that is not retried, or no longer, ends with what its last attempt on the
 * wire ended with.
 */
export function retryInterceptor(
  surroundings: Surroundings,
  select: (method: string) => RetryPolicy | undefined,
): Interceptor {
  return (options, nextCall) => {
    const own = withRecord(options, surroundings);
    const policy = select(own.record.method);
    if (policy === undefined || policy.mode === "off") {
      return nextCall(own.options) as ReturnType<Interceptor>;
    }
    return new RetryCall(own.options, nextCall, own.record, policy, surroundings);
  };
}

/** Reasons by which a server that runs the toolkit says that the handler was not reached. */
const notRun: ReadonlySet<Reason> = new Set([
  "CONCURRENCY_LIMIT",
  "LOAD_SHED",
  "QUEUE_TIMEOUT",
  "DRAINING",
]);

class RetryCall extends ReplayableCall {
  readonly #rules: RetryRules;
  readonly #surroundings: Surroundings;
  readonly #policy: RetryPolicy;
  /** As it was when the call began: one call is not half observed. */
  readonly #enforced: boolean;
  /** What the last attempt on the wire ended with. */
  #lastRemote: { readonly status: StatusObject; readonly attempt: ReplayAttempt } | undefined;
  #stopWaiting: CancelTask | undefined;

  constructor(
    options: OptionsWithOwn,
    nextCall: NextCall,
    record: CallRecord,
    policy: RetryPolicy,
    surroundings: Surroundings,
  ) {
    super(options, nextCall, record, policy.options);
    this.#rules = new RetryRules(policy.options, surroundings.random);
    this.#surroundings = surroundings;
    this.#policy = policy;
    this.#enforced = policy.mode === "enforce";
  }

  protected override afterFailure(
    attempt: ReplayAttempt,
    status: StatusObject,
    origin: StatusOrigin,
  ): void {
    const last = this.#lastRemote;
    if (origin === "local-policy" && last !== undefined) {
      // A policy of ours refused the retry. The caller learns what the server said, not that.
      this.#stop(rejectionOf(status)?.reason ?? "RETRY_NOT_ELIGIBLE", true);
      this.conclude(last.status, last.attempt);
      return;
    }
    this.#lastRemote = { status, attempt };
    const enforced = this.#enforced;
    const decision = this.#rules.decide(this.#facts(attempt, status, origin));
    if (decision.kind === "stop") {
      // What could never be retried is no decision of ours, and telling it would drown the others.
      if (decision.reason !== "RETRY_NOT_ELIGIBLE") this.#stop(decision.reason, enforced);
      this.conclude(status, attempt);
      return;
    }
    const { delayMs } = decision;
    const atMs = this.record.clock.now();
    this.#policy.counts.retried += 1;
    this.record.decide({ policy: "retry", verdict: "retry", enforced, atMs, waitMs: delayMs });
    if (enforced) this.#launchAfter(delayMs, status);
    else this.conclude(status, attempt);
  }

  protected override released(): void {
    this.#stopWaiting?.();
    this.#stopWaiting = undefined;
  }

  #launchAfter(delayMs: number, after: StatusObject): void {
    const { record } = this;
    const { room } = this.#surroundings;
    if (room.closed) {
      this.finish(closedStatus());
      return;
    }
    const end = (closed: StatusObject) => this.finish(closed);
    const stopTimer = record.clock.schedule(delayMs, () => {
      this.released();
      // The status came in whatever context the connection was opened in; the attempt is our caller's.
      record.restore(() => this.launch("retry", delayMs, after));
    });
    room.enter(end);
    this.#stopWaiting = () => {
      room.leave(end);
      stopTimer();
    };
  }

  #facts(attempt: ReplayAttempt, status: StatusObject, origin: StatusOrigin): FailedAttempt {
    const { record } = this;
    const rejection = rejectionOf(status);
    return {
      code: status.code,
      origin,
      attempts: record.attempts.length,
      trailersOnly: !attempt.sawHeaders,
      pushback: origin === "remote" ? readPushback(status.metadata) : undefined,
      retryInfoMs:
        origin === "remote" ? decodeStatusDetails(status.metadata).retryDelayMs : undefined,
      handlerNotRun: rejection !== undefined && notRun.has(rejection.reason),
      remainingMs: record.deadlineMs - record.clock.now(),
      replayable: this.replayable,
    };
  }

  #stop(reason: Reason, enforced: boolean): void {
    this.#policy.counts.stopped += 1;
    const atMs = this.record.clock.now();
    this.record.decide({ policy: "retry", verdict: "stop", reason, enforced, atMs });
  }
}

export type RetryPolicyOptions = RetryOptions & Pick<PolicyOptions, "mode">;

/**
 * Retries as an interceptor of their own, with the same options for all methods.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function retry(options: RetryPolicyOptions & StandaloneOptions = {}): Interceptor {
  const { own, surroundings, rest } = splitOptions(options, "retry");
  const policy = new RetryPolicy(resolveRetryOptions(rest), own.mode ?? "enforce");
  return retryInterceptor(surroundings, () => policy);
}
