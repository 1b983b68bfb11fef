/** The policies that decide about calls. */
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
  | "admission";

/**
 * What a policy did to a call:
 * `admit` it went on, `queue` it waited, `reject` it was refused, `retry` another attempt follows, `hedge` another
 * attempt runs beside those under way, `fallback` it is answered by something else, `skip` optional work was left
 * out, `inject` a fault was put in,
 * `stop` no attempt follows, `expire` its time ran out, `cancel` it was called off.
 */
export type Verdict =
  | "admit"
  | "queue"
  | "reject"
  | "retry"
  | "hedge"
  | "fallback"
  | "skip"
  | "inject"
  | "stop"
  | "expire"
  | "cancel";

/**
 * One decision of one policy about one call: the unit of telemetry. Decisions that change nothing
 * (an admission without a wait) are not recorded.
 */
export interface Decision {
  readonly policy: PolicyName;
  readonly verdict: Verdict;
  /** Absent where the verdict says it all, as with `retry`. */
  readonly reason?: Reason;
  /** False when the policy only observes: the call went on as if the policy were not there. */
  readonly enforced: boolean;
  /** When, on the monotonic clock. */
  readonly atMs: number;
  /** For `retry` and `queue`: how long the call waits or waited, in milliseconds. */
  readonly waitMs?: number;
  /** For a person: the numbers behind it, such as `in flight 64 of 64`. */
  readonly detail?: string;
}

/** A decision with the call, or the guarded run, that it was about. */
export interface DecisionEvent extends Decision {
  /** The call's path, or the guard's name. */
  readonly method: string;
  readonly target: string;
  readonly side: "client" | "server" | "guard";
}

/**
 * Why a policy refused a call, or ended it. A call ends with the status of its reason.
 *
 * The codes of both lists stand in statuses (`google.rpc.ErrorInfo.reason`), spans, metrics and logs; `docs/reasons.md`
 * explains each.
 */
export const refusalReasons = [
  /** The server runs as many calls as its limit allows, its queue is full, and nobody in it is worse. */
  "CONCURRENCY_LIMIT",
  /** The server sheds this priority at its present load, or a better call took its place in the queue. */
  "LOAD_SHED",
  /**
   * The bulkhead, or the call's partition of it, is full, and its queue too; or the call weighs more than all there is
   * for it. On a client or a server.
   */
  "BULKHEAD_FULL",
  /** The call waited in a queue as long as it may: that of a bulkhead, or of a server's admission. */
  "QUEUE_TIMEOUT",
  /** The breaker for this key is open. */
  "BREAKER_OPEN",
  /** The breaker is half-open and its probes are all out. */
  "BREAKER_PROBING",
  /** The breaker has just closed, and lets a growing share of the calls through. */
  "BREAKER_RAMPING",
  /** The target refuses so much of what it is sent that this call was not sent. */
  "THROTTLED",
  /** The server has told that it sheds calls of this priority, so this one was not sent. */
  "SERVER_SHEDDING",
  /** The key has used up its rate or quota, and no token comes in time. */
  "RATE_LIMIT_EXCEEDED",
  /** The deadline had passed before the call could start, or while it waited in a queue. */
  "DEADLINE_EXPIRED",
  /** Too little time is left for the call to be worth starting. */
  "DEADLINE_INFEASIBLE",
  /** The deadline passed while the call ran. */
  "DEADLINE_EXCEEDED",
  /** The server is about to go. */
  "DRAINING",
  /** The caller has begun a call and not sent its request in time. */
  "REQUEST_TIMEOUT",
  /** The stream has been open for as long as the server lets streams be. */
  "STREAM_AGED",
  /** The inbound call for which this one was made has been cancelled. */
  "PARENT_CANCELLED",
  /** The weir, or the client's channel, was closed. */
  "CLOSED",
  /** No connection became ready in the time an attempt, or a retry, may wait for one. */
  "CONNECTION_TIMEOUT",
  /** An attempt took longer than it may. */
  "ATTEMPT_TIMEOUT",
  /** Nothing of the response came in time. */
  "FIRST_RESPONSE_TIMEOUT",
  /** The next message of a streamed response did not come in time. */
  "IDLE_TIMEOUT",
  /** Guarded work that is no gRPC call took longer than it may. */
  "WORK_TIMEOUT",
] as const;

/**
 * Why a policy did not go on, or what it did to a call. They stand in decisions and spans; the call ends with the status
 * that it has without them.
 */
export const decisionReasons = [
  /** No attempt is left. */
  "RETRY_ATTEMPTS_SPENT",
  /** The status, its origin or the method's idempotency forbids another attempt. */
  "RETRY_NOT_ELIGIBLE",
  /** The next attempt could not start before the deadline. */
  "RETRY_PAST_DEADLINE",
  /** The next attempt could start before the deadline, and not end by it, by what such calls usually take. */
  "RETRY_INFEASIBLE",
  /** The server asked not to be retried. */
  "RETRY_PUSHBACK_STOP",
  /** The response has begun, or the request no longer fits the replay buffer. */
  "RETRY_COMMITTED",
  /** The budget for extra attempts to this target is spent. */
  "RETRY_BUDGET",
  /** The connection bears no further reset of a stream now, so an attempt was not called off, or not sent. */
  "RESET_BUDGET",
  /** The call is itself part of a retry of a service above; one layer of retries is enough. */
  "RETRY_DEPTH",
  /** A service below has already retried and given up. */
  "RETRY_EXHAUSTED_BELOW",
  /** The retry waits until the channel, which could not connect, does. */
  "RETRY_AWAITS_CONNECTION",
  /** The server named a wait that is too long to be meant. */
  "RETRY_WAIT_TOO_LONG",
  /** No fallback had an answer either. */
  "FALLBACK_UNANSWERED",
  /** A flag switches this optional work off. */
  "BROWNOUT_FLAG",
  /** The pressure is too high for this optional work. */
  "BROWNOUT_PRESSURE",
  /** A fault was put in on purpose. */
  "FAULT_INJECTED",
] as const;

export type RefusalReason = (typeof refusalReasons)[number];

export type Reason = RefusalReason | (typeof decisionReasons)[number];

const known: ReadonlySet<string> = new Set([...refusalReasons, ...decisionReasons]);

export function isReason(value: string): value is Reason {
  return known.has(value);
}
