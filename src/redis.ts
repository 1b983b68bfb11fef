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
export { redisIdempotencyStore } from "./redis/idempotency-store.js";
export { RedisError, type RedisOptions } from "./redis/script.js";
