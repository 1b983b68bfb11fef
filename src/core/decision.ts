import type { Priority } from "./priority.js";

/**
 * The policies that decide about calls.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/reasons.md
 */
export type PolicyName =
  | "deadline"
  | "timeouts"
  | "retry"
  | "hedge"
  | "breaker"
  | "bulkhead"
  | "throttle"
  | "rate"
  | "fallback"
  | "brownout"
  | "faults"
  | "drain"
  | "deadline-guard"
  | "feasibility"
  | "quota"
  | "idempotency"
  | "admission"
  | "flags";

/**
 * What a policy did to a call:
 *
 * - `admit`: it let the call go on.
 * - `queue`: the call waited.
 * - `reject`: it refused the call.
 * - `retry`: another attempt follows.
 * - `hedge`: another attempt starts beside those that run.
 * - `fallback`: something else answers the call.
 * - `replay`: the answer to an earlier call with the same idempotency key answers the call.
 * - `skip`: it left out optional work.
 * - `inject`: it injected a fault.
 * - `stop`: no further attempt follows.
 * - `expire`: the time of the call ran out.
 * - `cancel`: it cancelled the call.
 * - `switch`: it changed what holds for all calls from now on. Such a decision is about no single call.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/reasons.md
 */
export type Verdict =
  | "admit"
  | "queue"
  | "reject"
  | "retry"
  | "hedge"
  | "fallback"
  | "replay"
  | "skip"
  | "inject"
  | "stop"
  | "expire"
  | "cancel"
  | "switch";

/**
 * One decision of one policy about one call, as spans, metrics and logs report it. A decision that changes nothing, such
 * as an admission without a wait, is not recorded.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/reasons.md
 */
export interface Decision {
  readonly policy: PolicyName;
  readonly verdict: Verdict;
  /** Absent where the verdict says enough, as with `retry`. */
  readonly reason?: Reason;
  /** False in mode `observe`: the call went on as if the policy were not there. */
  readonly enforced: boolean;
  /** When it was made, in milliseconds of the monotonic clock. */
  readonly atMs: number;
  /** With `retry`: how long the call will wait. With `queue`: how long it waited. In milliseconds. */
  readonly waitMs?: number;
  /** For people: the numbers behind it, such as `running 64 of 64, queued 100 of 100`. */
  readonly detail?: string;
}

/**
 * A decision, and the call or the guarded run that it was about. One of the side `process` is about none.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/reasons.md
 */
export interface DecisionEvent extends Decision {
  /** The path of the method, such as `/pkg.Service/Method`, or the name of the guard. Empty where it is about no call. */
  readonly method: string;
  readonly target: string;
  readonly side: Side;
  /** When it was made, in milliseconds since the Unix epoch. */
  readonly epochMs: number;
  /** The priority of the call, where it is known. */
  readonly priority?: Priority;
  /** The number of the latest attempt, or of the attempt that it is about. Absent on servers, and before the first. */
  readonly attempt?: number;
  /** The trace of the call's span, or else of the span that was active when the call was made; 32 hexadecimal digits. */
  readonly traceId?: string;
  /** That span; 16 hexadecimal digits. */
  readonly spanId?: string;
}

/**
 * Where a decision is taken: on a call to a server, on a call from a client, on guarded work that is not gRPC, or, where it
 * holds for all calls, in the process as a whole.
 */
export type Side = "client" | "server" | "guard" | "process";

/** Counts decisions, for metrics. */
export interface DecisionCounter {
  /** Nobody collects the counts, so that no decision need be made for them. */
  readonly idle: boolean;
  /** @param priority That of the call or run; `undefined` where it has none. */
  count(decision: Decision, side: Side, priority: Priority | undefined): void;
}

/**
 * Why a policy refused a call or ended it. Each reason has a status, with which the call ends.
 *
 * The reasons of this list and the next appear in statuses (`google.rpc.ErrorInfo.reason`), spans, metrics and logs.
 * `docs/reasons.md` explains each, and what to do about it.
 */
export const refusalReasons = [
  /** The server runs as many calls as its limit allows, and its queue is full of calls that matter as much or more. */
  "CONCURRENCY_LIMIT",
  /** The server sheds calls of this priority at its present load, or a call that matters more took its place in the queue. */
  "LOAD_SHED",
  /**
   * The bulkhead or the partition of the call is full, and so is its queue; or the call weighs more than its partition may
   * hold. On a client or a server.
   */
  "BULKHEAD_FULL",
  /** The call waited for as long as it may, in the queue of a bulkhead or of a server's admission. */
  "QUEUE_TIMEOUT",
  /** The circuit breaker of this key is open. */
  "BREAKER_OPEN",
  /** The circuit breaker is half-open, and all its probes are running. */
  "BREAKER_PROBING",
  /** The circuit breaker has just closed, and lets through only a share of the calls, which grows. */
  "BREAKER_RAMPING",
  /** The target refuses so many calls that this one was not sent (adaptive throttling). */
  "THROTTLED",
  /** The server has announced that it sheds calls of this priority, so this one was not sent. */
  "SERVER_SHEDDING",
  /** The rate or quota of the key is used up, and no token comes in time. */
  "RATE_LIMIT_EXCEEDED",
  /** The deadline had passed before the call could start, or while it waited in a queue. */
  "DEADLINE_EXPIRED",
  /** The time until the deadline is shorter than such calls need. */
  "DEADLINE_INFEASIBLE",
  /** The deadline passed while the call ran. */
  "DEADLINE_EXCEEDED",
  /** The server is shutting down. */
  "DRAINING",
  /** Somebody has switched the method, its service, or all calls off. */
  "KILLED",
  /** The client started a call and did not send its request in time. */
  "REQUEST_TIMEOUT",
  /** The stream has been open for as long as the server allows. */
  "STREAM_AGED",
  /** The inbound call for which this one was made has been cancelled. */
  "PARENT_CANCELLED",
  /** The weir or the channel of the client was closed. */
  "CLOSED",
  /** No connection became ready in the time that an attempt or a retry may wait for one. */
  "CONNECTION_TIMEOUT",
  /** The attempt took longer than its own time limit. */
  "ATTEMPT_TIMEOUT",
  /** No part of the response came in time. */
  "FIRST_RESPONSE_TIMEOUT",
  /** The next message of a streamed response did not come in time. */
  "IDLE_TIMEOUT",
  /** Guarded work that is not a gRPC call took longer than its time limit. */
  "WORK_TIMEOUT",
  /** The method needs an idempotency key, and the call has none. */
  "IDEMPOTENCY_KEY_MISSING",
  /** The idempotency key is too long, is not printable ASCII, or there are several. */
  "IDEMPOTENCY_KEY_INVALID",
  /** The idempotency key belongs to another request. */
  "IDEMPOTENCY_KEY_REUSED",
  /** An earlier call with the same idempotency key still runs, and does not end before the deadline of this one. */
  "IDEMPOTENCY_IN_PROGRESS",
  /** The store of idempotency keys does not answer, so it is not known whether the call has run already. It was not run. */
  "IDEMPOTENCY_STORE_FAILED",
  /** The call has run, and its answer could not be stored: the store failed, or another call has taken over the key. */
  "IDEMPOTENCY_ANSWER_NOT_STORED",
  /** The call has run before, and its answer was too large to be kept. */
  "IDEMPOTENCY_ANSWER_NOT_KEPT",
  /** The server could not tell the key, the scope or the request of the call: a function of its user has failed. */
  "IDEMPOTENCY_MISCONFIGURED",
] as const;

/**
 * Why a policy did what it did, where that gives the call no status: it keeps the status that it has without the policy.
 */
export const decisionReasons = [
  /** No attempt is left. */
  "RETRY_ATTEMPTS_SPENT",
  /** The status, where it came from, or the idempotency of the method forbids another attempt. */
  "RETRY_NOT_ELIGIBLE",
  /** The next attempt could not start before the deadline. */
  "RETRY_PAST_DEADLINE",
  /** The next attempt could start before the deadline, but going by the usual time of such calls it would end too late. */
  "RETRY_INFEASIBLE",
  /** The server asked not to be retried. */
  "RETRY_PUSHBACK_STOP",
  /** The response has begun, or the request no longer fits the replay buffer. */
  "RETRY_COMMITTED",
  /** The budget for extra attempts to this target is spent. */
  "RETRY_BUDGET",
  /** The connection may carry no further stream reset now, so an attempt was not cancelled, or not sent. */
  "RESET_BUDGET",
  /** The call belongs to a retry of a service upstream: only one layer retries. */
  "RETRY_DEPTH",
  /** A service downstream has already retried and given up. */
  "RETRY_EXHAUSTED_BELOW",
  /** The channel could not connect, and the retry waits until it does. */
  "RETRY_AWAITS_CONNECTION",
  /** The pushback of the server is longer than the longest wait that is obeyed. */
  "RETRY_WAIT_TOO_LONG",
  /** No fallback had an answer. */
  "FALLBACK_UNANSWERED",
  /** A flag switches this optional work off. */
  "BROWNOUT_FLAG",
  /** The pressure on the process is too high for this optional work. */
  "BROWNOUT_PRESSURE",
  /** A fault was injected on purpose. */
  "FAULT_INJECTED",
  /** A store that several processes share could not be asked, and this process decided by what it knows itself. */
  "STORE_AWAY",
  /** The value of a flag has changed. */
  "FLAG_CHANGED",
] as const;

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/reasons.md */
export type RefusalReason = (typeof refusalReasons)[number];

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/reasons.md */
export type Reason = RefusalReason | (typeof decisionReasons)[number];

const known: ReadonlySet<string> = new Set([...refusalReasons, ...decisionReasons]);

export function isReason(value: string): value is Reason {
  return known.has(value);
}
