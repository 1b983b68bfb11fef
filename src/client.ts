export type { BreakerPolicyOptions } from "./client/breaker.js";
export { breaker } from "./client/breaker.js";
export type { BulkheadPolicyOptions } from "./client/bulkhead.js";
export { bulkhead } from "./client/bulkhead.js";
export type { ClientPolicy, MethodPolicy } from "./client/client-policy.js";
export { context } from "./client/context.js";
export type { DeadlineOptions } from "./client/deadline.js";
export { deadline } from "./client/deadline.js";
export type { KeyedCall, PolicyOptions, StandaloneOptions } from "./client/policy-options.js";
export { retry } from "./client/retry.js";
export type {
  FailedStatus,
  ResumeOptions,
  RetryJudgement,
  RetryPolicyOptions,
} from "./client/retry-policy.js";
export type { BackoffOptions, Jitter } from "./core/backoff.js";
export type { BreakerSnapshot } from "./core/breaker.js";
export type { BreakerOptions } from "./core/breaker-options.js";
export type { BulkheadOptions, BulkheadSnapshot } from "./core/bulkhead.js";
export type { RetryOptions } from "./core/retry-options.js";
export type { SurroundingsOptions } from "./grpc/surroundings.js";
