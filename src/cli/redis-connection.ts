import { createRequire } from "node:module";
import { join } from "node:path";
import { isRecord } from "../core/options.js";
import { fromIoredis, fromNodeRedis, type RedisClient } from "../redis/client.js";
import { CommandError } from "./terminal.js";

/** A connection for one command. */
export interface RedisConnection {
  readonly client: RedisClient;
  close(): void;
}

/** Connects to the Redis at a URL. @throws CommandError */
export type OpenRedis = (url: string) => Promise<RedisConnection>;

/** How long connecting may take, in milliseconds. */
const connectMs = 3_000;

/**
 * Connects with the client library of the project in which the program is called. The toolkit brings none: a program that has
 * flags in Redis has one.
 */
export const openRedis: OpenRedis = async (url) => {
  const ioredis = load("ioredis");
  if (ioredis !== undefined) return openIoredis(ioredis, url);
  const nodeRedis = load("redis");
  if (nodeRedis !== undefined) return openNodeRedis(nodeRedis, url);
  const text =
    "no client of Redis is installed here: run npm install ioredis, or npm install redis";
  throw new CommandError(1, text);
};

/** What a package exports, by name. */
type Module = (exported: string) => unknown;

/** A package of the project, or of the place where the toolkit is installed; `undefined` where neither has it. */
function load(name: string): Module | undefined {
  for (const from of [join(process.cwd(), "index.js"), import.meta.url]) {
    const required = createRequire(from);
    try {
      required.resolve(name);
    } catch {
      continue;
    }
    return moduleOf(required(name));
  }
  return undefined;
}

function moduleOf(loaded: unknown): Module {
  const holds = isRecord(loaded) || typeof loaded === "function";
  return (exported) => (holds ? Reflect.get(loaded, exported) : undefined);
}

type IoredisOfCommand = Parameters<typeof fromIoredis>[0] & {
  connect(): Promise<unknown>;
  on(event: "error", listener: (error: unknown) => void): unknown;
  disconnect(): void;
};
type IoredisConstructor = new (url: string, options: object) => IoredisOfCommand;

async function openIoredis(ioredis: Module, url: string): Promise<RedisConnection> {
  const Redis = ioredis("Redis");
  if (!isIoredis(Redis)) throw new CommandError(1, "this ioredis exports no Redis");
  const redis = new Redis(url, {
    lazyConnect: true,
    connectTimeout: connectMs,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  return connected(redis, url, fromIoredis(redis), () => redis.disconnect());
}

function isIoredis(value: unknown): value is IoredisConstructor {
  return typeof value === "function";
}

type NodeRedisOfCommand = Parameters<typeof fromNodeRedis>[0] & {
  connect(): Promise<unknown>;
  on(event: "error", listener: (error: unknown) => void): unknown;
  destroy(): void;
};
type CreateNodeRedis = (options: object) => NodeRedisOfCommand;

async function openNodeRedis(nodeRedis: Module, url: string): Promise<RedisConnection> {
  const createClient = nodeRedis("createClient");
  if (!isNodeRedis(createClient)) throw new CommandError(1, "this redis exports no createClient");
  const socket = { connectTimeout: connectMs, reconnectStrategy: false };
  const redis = createClient({ url, socket });
  return connected(redis, url, fromNodeRedis(redis), () => redis.destroy());
}

function isNodeRedis(value: unknown): value is CreateNodeRedis {
  return typeof value === "function";
}

async function connected(
  redis: Pick<IoredisOfCommand, "connect" | "on">,
  url: string,
  client: RedisClient,
  close: () => void,
): Promise<RedisConnection> {
  // ioredis rejects with "Connection is closed", and says here why.
  let why: unknown;
  redis.on("error", (error) => {
    why ??= error;
  });
  try {
    await redis.connect();
    return { client, close };
  } catch (error) {
    try {
      close();
    } catch {
      // It never was open.
    }
    throw new CommandError(
      1,
      `Redis at ${placeIn(url)} cannot be reached: ${textOf(why ?? error)}`,
    );
  }
}

/** Host and port: a URL may hold a password. */
export function placeIn(url: string): string {
  try {
    const { host } = new URL(url);
    return host === "" ? "an unknown place" : host;
  } catch {
    return "an unknown place";
  }
}

function textOf(error: unknown): string {
  // Where a name has several addresses, Node puts an error for each into one without a text.
  if (error instanceof AggregateError) return error.errors.map(textOf).join(", ");
  return error instanceof Error ? error.message : String(error);
}
