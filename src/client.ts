export type { ByMethod, MethodName } from "./core/method-names.js";
export type { ResetOptions } from "./core/reset-budget.js";
export type {
  ChannelConnectionSnapshot,
  ChannelPartitionSnapshot,
} from "./grpc/channel/call.js";
export type {
  ChannelPartitionOptions,
  PartitionedChannelOptions,
  PlacedCall,
} from "./grpc/channel/options.js";
export type {
  PartitionedChannel,
  PartitionedChannelSnapshot,
} from "./grpc/channel/partitioned-channel.js";
export { partitionedChannel } from "./grpc/channel/partitioned-channel.js";
export { context } from "./grpc/client/context.js";
export type {
  AttemptEnd,
  CallEnd,
  OwnPart,
  OwnPartEnd,
  OwnPartOfCall,
  StartingAttempt,
  StartingCall,
} from "./grpc/client/own-part.js";
export { part } from "./grpc/client/own-part.js";
export type { KeyedCall, PolicyOptions, StandaloneOptions } from "./grpc/client/policy.js";
export type { EnvironmentOptions } from "./grpc/environment.js";
export { GuardRejectedError } from "./grpc/status/guard-rejected-error.js";
export type { Guard, GuardSnapshot } from "./guard/guard.js";
export type {
  GuardBreakerOptions,
  GuardBulkheadOptions,
  GuardedWork,
  GuardFallbackOptions,
  GuardOptions,
  GuardRetryOptions,
  GuardRunOptions,
} from "./guard/options.js";
export type { ClientPolicy, MethodPolicy } from "./pipeline/client.js";
export type { ServiceConfigImport, ServiceConfigPolicy } from "./pipeline/service-config.js";
export { policiesFromServiceConfig } from "./pipeline/service-config.js";
export { serviceConfigConflicts } from "./pipeline/service-config-conflicts.js";
export type {
  BreakerOverride,
  BreakerStateChange,
  BreakersSnapshot,
} from "./policies/breaker/breakers.js";
export type { BreakerKey, BreakerPolicyOptions, EndedAttempt } from "./policies/breaker/client.js";
export { breaker } from "./policies/breaker/client.js";
export type { BreakerOptions } from "./policies/breaker/options.js";
export type { BreakerSnapshot } from "./policies/breaker/snapshot.js";
export type {
  BulkheadOptions,
  BulkheadPartitionSnapshot,
  BulkheadPolicySnapshot,
  BulkheadSnapshot,
  BulkheadsSnapshot,
} from "./policies/bulkhead/bulkhead.js";
export type {
  BulkheadKey,
  BulkheadPolicyOptions,
} from "./policies/bulkhead/client.js";
export { bulkhead } from "./policies/bulkhead/client.js";
export type { PartitionOptions } from "./policies/bulkhead/partition-options.js";
export type { DeadlineOptions } from "./policies/deadline/client.js";
export { deadline } from "./policies/deadline/client.js";
export { timeouts } from "./policies/deadline/client-attempt-timeouts.js";
export type { TimeoutOptions } from "./policies/deadline/options.js";
export type { FallbackLimits, FallbackProviderSnapshot } from "./policies/fallback/chain.js";
export { fallback } from "./policies/fallback/client.js";
export type {
  FallbackOptions,
  FallbackPolicyOptions,
  FallbackSnapshot,
} from "./policies/fallback/client-policy.js";
export type {
  FallbackContext,
  FallbackFailure,
  FallbackFunction,
  FallbackProvider,
  FallbackProviderOptions,
  FallbackResponse,
  TimedProviderOptions,
} from "./policies/fallback/client-providers.js";
export { alternative, empty, staticValue, value } from "./policies/fallback/client-providers.js";
export type { AnswerCache, Known } from "./policies/fallback/stale-cache/answer-cache.js";
export type {
  StaleCacheOptions,
  StaleCacheSnapshot,
  VaryFunction,
  VaryingCall,
} from "./policies/fallback/stale-cache/client-cache.js";
export { staleCache } from "./policies/fallback/stale-cache/client-cache.js";
export type {
  MemoryAnswerCache,
  MemoryAnswerCacheOptions,
  MemoryAnswerCacheSnapshot,
} from "./policies/fallback/stale-cache/memory-answer-cache.js";
export { memoryAnswerCache } from "./policies/fallback/stale-cache/memory-answer-cache.js";
export type { FaultCall, FaultsPolicyOptions } from "./policies/faults/client.js";
export { faults } from "./policies/faults/client.js";
export type { FaultsSnapshot } from "./policies/faults/faults.js";
export type {
  DropFault,
  FaultOptions,
  FaultRate,
  LatencyFault,
  MidStreamFault,
  ResetFault,
  StatusFault,
} from "./policies/faults/options.js";
export { killSwitch } from "./policies/flags/client.js";
export type { KillSwitchOptions } from "./policies/flags/options.js";
export type { IdempotencyKeyOptions, KeyRequest } from "./policies/idempotency/client.js";
export { idempotencyKey } from "./policies/idempotency/client.js";
export type { MethodRegistry, MethodSource } from "./policies/idempotency/client-registry.js";
export { methodRegistry } from "./policies/idempotency/client-registry.js";
export type { IdempotencyLevel } from "./policies/idempotency/levels.js";
export type { RateOptions } from "./policies/rate-limit/client.js";
export { rate } from "./policies/rate-limit/client.js";
export type { RateLimitOptions } from "./policies/rate-limit/options.js";
export type { RateLimitSnapshot } from "./policies/rate-limit/rate-limit.js";
export type { QuotaAnswer, QuotaShort, QuotaStore } from "./policies/rate-limit/store.js";
export type { TokenRate } from "./policies/rate-limit/token-bucket.js";
export type { BackoffOptions, Jitter } from "./policies/retry/backoff.js";
export type { RetryBudgetOptions, RetryBudgetSnapshot } from "./policies/retry/budget.js";
export type { StandaloneHedgeOptions } from "./policies/retry/client.js";
export { hedge, retry } from "./policies/retry/client.js";
export type {
  FailedStatus,
  ResumeOptions,
  RetryJudgement,
  RetryPolicyOptions,
} from "./policies/retry/client-policy.js";
export type { HedgeOptions, RetryOptions } from "./policies/retry/options.js";
export type { FleetSnapshot, SharedRetryBudgets } from "./policies/retry/shared-budget.js";
export type {
  ThrottlePolicyOptions,
  ThrottlePolicySnapshot,
  ThrottlesSnapshot,
} from "./policies/throttle/client.js";
export { throttle } from "./policies/throttle/client.js";
export type { ThrottleOptions } from "./policies/throttle/options.js";
export type { ThrottleSnapshot } from "./policies/throttle/throttle.js";
