import { Redis } from "ioredis";
import { createClient } from "redis";
import { fromIoredis, fromNodeRedis, type RedisClient } from "../../../src/redis/client.js";

/** A client of one of the libraries, and its end. */
export interface OpenClient {
  readonly client: RedisClient;
  readonly close: () => void;
}

/** A client of ioredis with its default options, so that what is tested is what users get. */
export async function openIoredis(port: number): Promise<OpenClient> {
  const redis = new Redis(port, "127.0.0.1");
  redis.on("error", () => {});
  return { client: fromIoredis(redis), close: () => redis.disconnect() };
}

/** The same of node-redis. */
async function openNodeRedis(port: number): Promise<OpenClient> {
  const redis = createClient({ socket: { host: "127.0.0.1", port } });
  redis.on("error", () => {});
  await redis.connect();
  return { client: fromNodeRedis(redis), close: () => redis.destroy() };
}

export const libraries: Readonly<Record<string, (port: number) => Promise<OpenClient>>> = {
  ioredis: openIoredis,
  "node-redis": openNodeRedis,
};

/** Asks a server itself, over a connection of its own. */
export async function inspect<T>(port: number, ask: (admin: Redis) => Promise<T>): Promise<T> {
  const admin = new Redis(port, "127.0.0.1");
  try {
    return await ask(admin);
  } finally {
    admin.disconnect();
  }
}
