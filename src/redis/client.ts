import { answerOf, callSafely, whenKnown } from "../core/user-code.js";

/**
 * What the toolkit needs of a Redis client. `fromIoredis` and `fromNodeRedis` make one of a client that you have. Keys and
 * arguments are text, and scripts answer with lists of texts, so that it makes no difference how a client decodes replies.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface RedisClient {
  /** `EVALSHA`. Rejects with an error whose message begins with `NOSCRIPT` where the server does not know the script. */
  evalsha(sha1: string, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  /** `EVAL`. */
  eval(script: string, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  /**
   * Receives the messages of a channel, over a connection of its own. The connection is made in the background, and again
   * after it was lost. Nothing here throws or rejects.
   *
   * @param channel Its full name: a key prefix of the client is not put in front.
   * @returns Ends the subscription and its connection.
   */
  subscribe(channel: string, listener: ChannelListener): () => void;
}

/**
 * Is told what happens to a subscription, until it is ended. Its methods do not throw.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface ChannelListener {
  onMessage(message: string): void;
  /**
   * The subscription holds: at first, and again after the connection was lost. Redis keeps no messages for those who are away,
   * so this is the time to read what they were about. It may be called more often than that. Clusters and sentinels of
   * node-redis do not say each time, so read at intervals, too.
   */
  onSubscribed(): void;
  /** The client does not try any more, because its options say so, or could not begin. It can be subscribed anew. */
  onFailed(error: unknown): void;
}

/** The end of a subscription. @throws TypeError for what is no function. */
export function ending(answer: unknown): () => void {
  if (typeof answer !== "function") throw new TypeError("it gave no way to end the subscription");
  return () => answer();
}

/**
 * The part of a client of `ioredis` that the toolkit uses: a `Redis` or a `Cluster`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface IoredisClient {
  evalsha(sha1: string, keyCount: number, ...keysAndArgs: string[]): Promise<unknown>;
  eval(script: string, keyCount: number, ...keysAndArgs: string[]): Promise<unknown>;
  duplicate(): IoredisSubscriber;
}

/**
 * The part of a client of `ioredis` that a subscription uses.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface IoredisSubscriber {
  readonly options: object;
  on(event: "message", listener: (channel: string, message: string) => void): unknown;
  on(event: "ready" | "end", listener: () => void): unknown;
  on(event: "error", listener: (error: unknown) => void): unknown;
  subscribe(channel: string): Promise<unknown>;
  disconnect(): void;
}

/**
 * Makes use of a client of `ioredis`. The client stays yours: connect, configure and quit it as you do. Subscriptions
 * duplicate it.
 *
 * @example
 * ```ts
 * const store = redisIdempotencyStore(fromIoredis(new Redis("redis://cache:6379")));
 * ```
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export function fromIoredis(client: IoredisClient): RedisClient {
  return {
    evalsha: async (sha1, keys, args) =>
      answerOf(() => client.evalsha(sha1, keys.length, ...keys, ...args)),
    eval: async (script, keys, args) =>
      answerOf(() => client.eval(script, keys.length, ...keys, ...args)),
    subscribe: (channel, listener) => {
      const told = new Subscription(listener);
      return told.open(() => {
        const own = client.duplicate();
        // ioredis would put the prefix of keys before the channel, too, but no script does that where it publishes.
        Object.assign(own.options, { keyPrefix: "" });
        own.on("error", ignore);
        own.on("end", () => told.onFailed(new Error("ioredis has given up the connection")));
        own.on("message", (_channel, message) => told.onMessage(message));
        // After `ready`, ioredis subscribes anew by itself. The answer to another SUBSCRIBE says that it has.
        own.on("ready", () => {
          own.subscribe(channel).then(() => told.onSubscribed(), ignore);
        });
        // Makes a client with `lazyConnect` connect. Where it fails, `ready` or `end` will follow.
        own.subscribe(channel).catch(ignore);
        return () => own.disconnect();
      });
    },
  };
}

/**
 * The part of a client of `redis` (node-redis) that the toolkit uses: what `createClient`, `createClientPool`,
 * `createCluster` or `createSentinel` returns.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface NodeRedisClient {
  evalSha(sha1: string, options: NodeRedisScriptInput): Promise<unknown>;
  eval(script: string, options: NodeRedisScriptInput): Promise<unknown>;
  /** A pool has none. */
  duplicate?(): NodeRedisSubscriber;
}

/**
 * Keys and arguments of a script.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface NodeRedisScriptInput {
  keys: string[];
  arguments: string[];
}

/**
 * The part of a client of `redis` (node-redis) that a subscription uses.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface NodeRedisSubscriber {
  on(event: string, listener: (...args: readonly unknown[]) => void): unknown;
  connect(): Promise<unknown>;
  subscribe(channel: string, listener: (message: string) => void): Promise<unknown>;
  destroy(): unknown;
}

/**
 * Options of `fromNodeRedis`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export interface FromNodeRedisOptions {
  /** Is duplicated for subscriptions. A pool needs one for them. @defaultValue the client itself */
  readonly subscriber?: { duplicate(): NodeRedisSubscriber };
}

/**
 * Makes use of a client of `redis` (node-redis). The client stays yours: connect, configure and close it as you do.
 * Subscriptions duplicate it.
 *
 * @example
 * ```ts
 * const redis = await createClient({ url: "redis://cache:6379" }).on("error", log).connect();
 * const store = redisIdempotencyStore(fromNodeRedis(redis));
 * ```
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/redis.md
 */
export function fromNodeRedis(
  client: NodeRedisClient,
  options: FromNodeRedisOptions = {},
): RedisClient {
  return {
    evalsha: async (sha1, keys, args) =>
      answerOf(() => client.evalSha(sha1, { keys: [...keys], arguments: [...args] })),
    eval: async (script, keys, args) =>
      answerOf(() => client.eval(script, { keys: [...keys], arguments: [...args] })),
    subscribe: (channel, listener) => {
      const told = new Subscription(listener);
      return told.open(() => {
        const own = options.subscriber?.duplicate() ?? client.duplicate?.();
        if (own === undefined) {
          throw new Error("a pool of node-redis needs the option subscriber for subscriptions");
        }
        // Without a listener the event would throw.
        own.on("error", ignore);
        own.on("terminated", (error) => told.onFailed(error));
        let subscribed = false;
        // A client emits the first, a cluster the second, a sentinel the third when they have connected and subscribed anew.
        for (const event of ["ready", "node-ready", "topology-change"]) {
          own.on(event, () => {
            if (subscribed) told.onSubscribed();
          });
        }
        const subscribe = async () => {
          await own.connect();
          await own.subscribe(channel, (message) => told.onMessage(message));
          subscribed = true;
          told.onSubscribed();
        };
        subscribe().catch((error: unknown) => told.onFailed(error));
        return () => own.destroy();
      });
    },
  };
}

/** Tells its listener nothing after its end or its failure, which end the connection. */
class Subscription implements ChannelListener {
  readonly #listener: ChannelListener;
  #ended = false;
  #close: () => unknown = ignore;

  constructor(listener: ChannelListener) {
    this.#listener = listener;
  }

  /** @param connect Subscribes, and returns what ends the connection. */
  open(connect: () => () => unknown): () => void {
    whenKnown(
      connect,
      (close) => {
        this.#close = close;
      },
      (error) => queueMicrotask(() => this.onFailed(error)),
    );
    return () => this.#end();
  }

  onMessage(message: string): void {
    if (!this.#ended) this.#listener.onMessage(message);
  }

  onSubscribed(): void {
    if (!this.#ended) this.#listener.onSubscribed();
  }

  onFailed(error: unknown): void {
    if (this.#ended) return;
    this.#end();
    this.#listener.onFailed(error);
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    // A client that is closed already throws.
    callSafely(this.#close, ignore, "redis");
  }
}

function ignore(): void {}
