import type { HedgeOptions } from "../core/hedge-options.js";
import type { ResetOptions } from "../core/reset-budget.js";
import type { TimeoutOptions } from "../core/timeouts.js";
import type { MethodRegistry } from "../grpc/method-registry.js";
import type { BreakerPolicyOptions } from "./breaker.js";
import type { BulkheadPolicyOptions } from "./bulkhead-options.js";
import type { DeadlineOptions } from "./deadline.js";
import type { FallbackPolicyOptions } from "./fallback-policy.js";
import type { FaultsPolicyOptions } from "./faults.js";
import type { IdempotencyKeyOptions } from "./idempotency-key.js";
import type { PolicyOptions } from "./policy-options.js";
import type { RateOptions } from "./rate.js";
import type { RetryPolicyOptions } from "./retry-policy.js";
import type { ThrottlePolicyOptions } from "./throttle.js";

/** The policies of a method, or of all methods. `false` leaves a policy out. */
export interface MethodPolicy {
  /** Always at work: without options, calls inherit the deadline of the inbound call. */
  readonly deadline?: DeadlineOptions;
  /**
   * Whether calls wait for a connection instead of failing while there is none (gRPC wait-for-ready). What the
   * metadata of a call says goes before it. @defaultValue false
   */
  readonly waitForReady?: boolean;
  /** @defaultValue off */
  readonly timeouts?: TimeoutOptions | false;
  /** @defaultValue off */
  readonly idempotencyKey?: IdempotencyKeyOptions | false;
  /** @defaultValue on, with the defaults of `RetryOptions` */
  readonly retry?: RetryPolicyOptions | false;
  /**
   * Attempts side by side, for methods that are known to be idempotent; those have hedges instead of retries (gRFC
   * A6 allows one of the two). Idempotency, buffers, depth and budget are those of `retry`. @defaultValue off
   */
  readonly hedge?: (HedgeOptions & Pick<PolicyOptions, "mode">) | false;
  /** @defaultValue on, with the defaults of `BreakerOptions` */
  readonly breaker?: BreakerPolicyOptions | false;
  /** @defaultValue off: it takes refusals of one method or instance for a word of the whole target */
  readonly throttle?: ThrottlePolicyOptions | false;
  /** @defaultValue off: how many calls a target allows is for it to say */
  readonly rate?: RateOptions | false;
  /** @defaultValue off: how many calls a target bears is for you to say */
  readonly bulkhead?: BulkheadPolicyOptions | false;
  /** Where the answer to a failed call comes from instead. @defaultValue off */
  readonly fallback?: FallbackPolicyOptions | false;
  /** What goes wrong on purpose, where the environment says `GRPC_WEIR_FAULTS=1`. @defaultValue off */
  readonly faults?: FaultsPolicyOptions | false;
}

/** The policies of a client. */
export interface ClientPolicy extends MethodPolicy {
  /**
   * What the schema says of idempotency: a registry from `methodRegistry`. `retry.idempotent` goes before it.
   * @defaultValue nothing is known
   */
  readonly idempotency?: MethodRegistry;
  /**
   * How many streams the servers let a client reset on a connection. Attempts that lost and attempts that run out of
   * their own time stay under it; `false` calls them off at once, whatever comes of it.
   * @defaultValue on: 800 at once and 26 a second, under the limits of Node's HTTP/2 server
   */
  readonly resets?: ResetOptions | false;
  /**
   * Policies of single methods (`pkg.Service/Method`) or services (`pkg.Service`), laid over those of the
   * client option by option. A breaker or bulkhead that is named here is one of its own; left out, the method
   * shares the client's.
   */
  readonly methods?: Readonly<Record<string, MethodPolicy>>;
}

export const policyKeys = [
  "deadline",
  "waitForReady",
  "timeouts",
  "idempotencyKey",
  "retry",
  "hedge",
  "breaker",
  "rate",
  "throttle",
  "bulkhead",
  "fallback",
  "faults",
] as const satisfies readonly (keyof MethodPolicy)[];

/** Lays the options of a method over those it starts from, policy by policy and option by option. */
export function merge(base: MethodPolicy, own: MethodPolicy): MethodPolicy {
  const merged: Record<string, unknown> = { ...base };
  for (const key of policyKeys) {
    const over = own[key];
    if (over === undefined) continue;
    const under = base[key];
    merged[key] =
      typeof over === "object" && typeof under === "object" ? { ...under, ...over } : over;
  }
  return merged;
}
