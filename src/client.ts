export { timeouts } from "./client/attempt-timeouts.js";
export type { BreakerKey, BreakerPolicyOptions } from "./client/breaker.js";
export { breaker } from "./client/breaker.js";
export type { EndedAttempt } from "./client/breaker-outcome.js";
export type { BulkheadPolicySnapshot } from "./client/bulkhead.js";
export { bulkhead } from "./client/bulkhead.js";
export type { BulkheadKey, BulkheadPolicyOptions } from "./client/bulkhead-options.js";
export { context } from "./client/context.js";
export type { DeadlineOptions } from "./client/deadline.js";
export { deadline } from "./client/deadline.js";
export { fallback } from "./client/fallback.js";
export type {
  FallbackOptions,
  FallbackPolicyOptions,
  FallbackSnapshot,
} from "./client/fallback-policy.js";
export type {
  FallbackContext,
  FallbackFailure,
  FallbackProvider,
  FallbackProviderOptions,
  TimedProviderOptions,
} from "./client/fallback-provider.js";
export type { FallbackFunction, FallbackResponse } from "./client/fallback-providers.js";
export { alternative, empty, staticValue, value } from "./client/fallback-providers.js";
export type { FaultCall, FaultsPolicyOptions } from "./client/faults.js";
export { faults } from "./client/faults.js";
export type { Guard, GuardSnapshot } from "./client/guard.js";
export type {
  GuardBreakerOptions,
  GuardBulkheadOptions,
  GuardedWork,
  GuardFallbackOptions,
  GuardOptions,
  GuardRetryOptions,
  GuardRunOptions,
} from "./client/guard-options.js";
export type { IdempotencyKeyOptions, KeyRequest } from "./client/idempotency-key.js";
export { idempotencyKey } from "./client/idempotency-key.js";
export type { ClientPolicy, MethodPolicy } from "./client/method-policy.js";
export type { KeyedCall, PolicyOptions, StandaloneOptions } from "./client/policy-options.js";
export type { RateOptions } from "./client/rate.js";
export { rate } from "./client/rate.js";
export type { StandaloneHedgeOptions } from "./client/retry.js";
export { hedge, retry } from "./client/retry.js";
export type {
  FailedStatus,
  ResumeOptions,
  RetryJudgement,
  RetryPolicyOptions,
} from "./client/retry-policy.js";
export type { ServiceConfigImport, ServiceConfigPolicy } from "./client/service-config.js";
export { policiesFromServiceConfig } from "./client/service-config.js";
export { serviceConfigConflicts } from "./client/service-config-conflicts.js";
export type { StaleCacheSnapshot } from "./client/stale-cache.js";
export { staleCache } from "./client/stale-cache.js";
export type { VaryFunction, VaryingCall } from "./client/stale-cache-key.js";
export type { StaleCacheOptions } from "./client/stale-cache-options.js";
export type { ThrottlePolicyOptions, ThrottlePolicySnapshot } from "./client/throttle.js";
export { throttle } from "./client/throttle.js";
export type { AnswerCache, Known } from "./core/answer-cache.js";
export type { BackoffOptions, Jitter } from "./core/backoff.js";
export type { BreakerOptions } from "./core/breaker-options.js";
export type {
  BreakerOverride,
  BreakerStateChange,
  BreakersSnapshot,
} from "./core/breaker-set.js";
export type { BreakerSnapshot } from "./core/breaker-snapshot.js";
export type {
  BulkheadOptions,
  BulkheadPartitionSnapshot,
  BulkheadSnapshot,
} from "./core/bulkhead.js";
export type { FallbackProviderSnapshot } from "./core/fallback.js";
export type { FallbackLimits } from "./core/fallback-options.js";
export type { FaultsSnapshot } from "./core/faults.js";
export type {
  DropFault,
  FaultOptions,
  FaultRate,
  LatencyFault,
  MidStreamFault,
  ResetFault,
  StatusFault,
} from "./core/faults-options.js";
export type { HedgeOptions } from "./core/hedge-options.js";
export type { IdempotencyLevel } from "./core/idempotency.js";
export type { PartitionOptions } from "./core/partition-options.js";
export type { QuotaAnswer, QuotaStore } from "./core/quota-store.js";
export type { RateLimitSnapshot } from "./core/rate-limit.js";
export type { RateLimitOptions } from "./core/rate-options.js";
export type { ResetOptions } from "./core/reset-budget.js";
export type { RetryBudgetSnapshot } from "./core/retry-budget.js";
export type { RetryBudgetOptions } from "./core/retry-budget-options.js";
export type { RetryOptions } from "./core/retry-options.js";
export type { ThrottleSnapshot } from "./core/throttle.js";
export type { ThrottleOptions } from "./core/throttle-options.js";
export type { TimeoutOptions } from "./core/timeouts.js";
export type { TokenRate } from "./core/token-bucket.js";
export { GuardRejectedError } from "./grpc/guard-rejection.js";
export type { MethodRegistry } from "./grpc/method-registry.js";
export { methodRegistry } from "./grpc/method-registry.js";
export type { MethodSource } from "./grpc/method-source.js";
export type { PartitionedChannel, PartitionedChannelSnapshot } from "./grpc/partitioned-channel.js";
export { partitionedChannel } from "./grpc/partitioned-channel.js";
export type {
  ChannelPartitionOptions,
  PartitionedChannelOptions,
  PlacedCall,
} from "./grpc/partitioned-channel-options.js";
export type {
  ChannelConnectionSnapshot,
  ChannelPartitionSnapshot,
} from "./grpc/partitioned-channel-partition.js";
export type { SurroundingsOptions } from "./grpc/surroundings.js";
export type {
  MemoryAnswerCache,
  MemoryAnswerCacheOptions,
  MemoryAnswerCacheSnapshot,
} from "./stores/memory-answer-cache.js";
export { memoryAnswerCache } from "./stores/memory-answer-cache.js";
