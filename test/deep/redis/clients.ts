import { Redis } from "ioredis";
import { createClient } from "redis";
import { fromIoredis, fromNodeRedis, type RedisClient } from "../../../src/redis/client.js";

/** A client of one of the libraries, and its end. */
export interface OpenClient {
  readonly client: RedisClient;
  close(): void;
}

/** Each library with its default options, so that what is tested is what users get. */
export const libraries: Readonly<Record<string, (port: number) => Promise<OpenClient>>> = {
  ioredis: async (port) => {
    const redis = new Redis(port, "127.0.0.1");
    redis.on("error", () => {});
    return { client: fromIoredis(redis), close: () => redis.disconnect() };
  },
  "node-redis": async (port) => {
    const redis = createClient({ socket: { host: "127.0.0.1", port } });
    redis.on("error", () => {});
    await redis.connect();
    return { client: fromNodeRedis(redis), close: () => redis.destroy() };
  },
};
