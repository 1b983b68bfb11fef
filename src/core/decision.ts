import type { Reason } from "./reasons.js";

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
