export type { AnswerCache } from "./policies/fallback/stale-cache/answer-cache.js";
export type { MemoryAnswerCacheOptions } from "./policies/fallback/stale-cache/memory-answer-cache.js";
export type {
  ClaimAnswer,
  Eventually,
  IdempotencyStore,
  KeyClaim,
} from "./policies/idempotency/store.js";
export type { LeaseSnapshot } from "./policies/rate-limit/leases.js";
export type { QuotaAnswer, QuotaShort, QuotaStore } from "./policies/rate-limit/store.js";
export type { SharedBudgetsSnapshot, SharedRetryBudgets } from "./policies/retry/shared-budget.js";
export {
  type RedisAnswerCache,
  type RedisAnswerCacheOptions,
  type RedisAnswerCacheSnapshot,
  redisAnswerCache,
} from "./redis/answer-cache.js";
export type {
  ChannelListener,
  FromNodeRedisOptions,
  IoredisClient,
  IoredisSubscriber,
  NodeRedisClient,
  NodeRedisScriptInput,
  NodeRedisSubscriber,
  RedisClient,
} from "./redis/client.js";
export { fromIoredis, fromNodeRedis } from "./redis/client.js";
export type { SetFlagOptions } from "./redis/flag-store.js";
export type { RedisFlags, RedisFlagsOptions } from "./redis/flags.js";
export { redisFlags } from "./redis/flags.js";
export { redisIdempotencyStore } from "./redis/idempotency-store.js";
export { type RedisPolicies, type RedisPoliciesOptions, redisPolicies } from "./redis/policies.js";
export {
  type RedisQuotaOptions,
  type RedisQuotaStore,
  redisQuotaStore,
} from "./redis/quota-store.js";
export {
  type RedisRetryBudgetsOptions,
  redisRetryBudgets,
} from "./redis/retry-budgets.js";
export { RedisError, type RedisOptions } from "./redis/script.js";
