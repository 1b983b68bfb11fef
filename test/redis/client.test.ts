import { EventEmitter } from "node:events";
import type { Cluster, Redis } from "ioredis";
import type {
  createClient,
  createClientPool,
  createCluster,
  createSentinel,
  RESP_TYPES,
  RedisClientType,
} from "redis";
import { describe, expect, expectTypeOf, it } from "vitest";
import {
  fromIoredis,
  fromNodeRedis,
  type IoredisClient,
  type NodeRedisClient,
  type NodeRedisSubscriber,
  type RedisClient,
} from "../../src/redis/client.js";

describe("the types of clients", () => {
  it("take a Redis and a Cluster of ioredis", () => {
    expectTypeOf<Redis>().toExtend<IoredisClient>();
    expectTypeOf<Redis<"resp3">>().toExtend<IoredisClient>();
    expectTypeOf<Cluster>().toExtend<IoredisClient>();
  });

  it("take a client, a pool, a cluster and a sentinel of node-redis", () => {
    expectTypeOf<ReturnType<typeof createClient>>().toExtend<NodeRedisClient>();
    expectTypeOf<ReturnType<typeof createClientPool>>().toExtend<NodeRedisClient>();
    expectTypeOf<ReturnType<typeof createCluster>>().toExtend<NodeRedisClient>();
    expectTypeOf<ReturnType<typeof createSentinel>>().toExtend<NodeRedisClient>();
  });

  it("take a client of node-redis that speaks RESP 2, or decodes texts as bytes", () => {
    type None = Record<never, never>;
    type Resp2 = RedisClientType<None, None, None, 2>;
    type Bytes = { [RESP_TYPES.BLOB_STRING]: BufferConstructor };
    expectTypeOf<Resp2>().toExtend<NodeRedisClient>();
    expectTypeOf<RedisClientType<None, None, None, 3, Bytes>>().toExtend<NodeRedisClient>();
  });

  it("refuse the other library's client, and a client that no adapter was put around", () => {
    expectTypeOf<Redis>().not.toExtend<NodeRedisClient>();
    expectTypeOf<Cluster>().not.toExtend<NodeRedisClient>();
    expectTypeOf<ReturnType<typeof createClient>>().not.toExtend<IoredisClient>();
    expectTypeOf<Redis>().not.toExtend<RedisClient>();
    expectTypeOf<ReturnType<typeof createClient>>().not.toExtend<RedisClient>();
  });
});

/** Notes what the listener of a subscription is told. */
function listening() {
  const told: string[] = [];
  return {
    told,
    listener: {
      onMessage: (message: string) => void told.push(`message ${message}`),
      onSubscribed: () => void told.push("subscribed"),
      onFailed: (error: unknown) => void told.push(`failed: ${String(error)}`),
    },
  };
}

const turns = () => new Promise<void>((resolve) => setImmediate(resolve));

describe("fromIoredis", () => {
  class FakeSubscriber extends EventEmitter {
    readonly options = { keyPrefix: "app:" };
    readonly subscribed: string[] = [];
    disconnects = 0;
    async subscribe(channel: string): Promise<unknown> {
      this.subscribed.push(`${this.options.keyPrefix}${channel}`);
      return 1;
    }
    disconnect(): void {
      this.disconnects += 1;
    }
  }

  function scene() {
    const asked: unknown[][] = [];
    const subscriber = new FakeSubscriber();
    const client = fromIoredis({
      evalsha: async (...args) => void asked.push(["evalsha", ...args]),
      eval: async (...args) => void asked.push(["eval", ...args]),
      duplicate: () => subscriber,
    });
    return { asked, client, subscriber };
  }

  it("hands over scripts with the count of their keys, the keys and the arguments", async () => {
    const { asked, client } = scene();
    await client.evalsha("f00", ["k1", "k2"], ["a"]);
    await client.eval("return 1", ["k"], []);
    expect(asked).toEqual([
      ["evalsha", "f00", 2, "k1", "k2", "a"],
      ["eval", "return 1", 1, "k"],
    ]);
  });

  it("subscribes to the channel without the prefix of keys", () => {
    const { client, subscriber } = scene();
    client.subscribe("flags", listening().listener);
    expect(subscriber.subscribed).toEqual(["flags"]);
  });

  it("tells at first, and each time that the connection was made again, that the subscription holds", async () => {
    const { client, subscriber } = scene();
    const { told, listener } = listening();
    client.subscribe("flags", listener);
    subscriber.emit("ready");
    await turns();
    subscriber.emit("message", "flags", "one");
    subscriber.emit("error", new Error("connection reset"));
    subscriber.emit("ready");
    await turns();
    expect(told).toEqual(["subscribed", "message one", "subscribed"]);
  });

  it("tells that ioredis gave up, once", async () => {
    const { client, subscriber } = scene();
    const { told, listener } = listening();
    client.subscribe("flags", listener);
    subscriber.emit("end");
    subscriber.emit("end");
    subscriber.emit("message", "flags", "late");
    expect(told).toEqual(["failed: Error: ioredis has given up the connection"]);
  });

  it("tells that no connection could be made, and never throws", async () => {
    const { told, listener } = listening();
    const broken = fromIoredis({
      evalsha: async () => {},
      eval: async () => {},
      duplicate: () => {
        throw new Error("no options");
      },
    });
    const end = broken.subscribe("flags", listener);
    await turns();
    expect(told).toEqual(["failed: Error: no options"]);
    end();
  });

  it("tells nothing after the end of the subscription, and disconnects", async () => {
    const { client, subscriber } = scene();
    const { told, listener } = listening();
    const end = client.subscribe("flags", listener);
    subscriber.emit("ready");
    end();
    await turns();
    subscriber.emit("message", "flags", "late");
    subscriber.emit("end");
    expect(told).toEqual([]);
    expect(subscriber.disconnects).toBe(1);
  });
});

describe("fromNodeRedis", () => {
  class FakeSubscriber extends EventEmitter implements NodeRedisSubscriber {
    readonly channels = new Map<string, (message: string) => void>();
    destroyed = 0;
    connectError: Error | undefined;
    async connect(): Promise<unknown> {
      if (this.connectError !== undefined) throw this.connectError;
      this.emit("ready");
      return this;
    }
    async subscribe(channel: string, listener: (message: string) => void): Promise<unknown> {
      this.channels.set(channel, listener);
      return undefined;
    }
    destroy(): unknown {
      this.destroyed += 1;
      throw new Error("The client is closed");
    }
  }

  function scene() {
    const asked: unknown[][] = [];
    const subscriber = new FakeSubscriber();
    const pool = {
      evalSha: async (...args: unknown[]) => void asked.push(["evalSha", ...args]),
      eval: async (...args: unknown[]) => void asked.push(["eval", ...args]),
    };
    return { asked, pool, subscriber, client: { ...pool, duplicate: () => subscriber } };
  }

  it("hands over scripts with their keys and arguments", async () => {
    const { asked, pool } = scene();
    const client = fromNodeRedis(pool);
    await client.evalsha("f00", ["k1", "k2"], ["a"]);
    await client.eval("return 1", ["k"], []);
    expect(asked).toEqual([
      ["evalSha", "f00", { keys: ["k1", "k2"], arguments: ["a"] }],
      ["eval", "return 1", { keys: ["k"], arguments: [] }],
    ]);
  });

  it.each(["ready", "node-ready", "topology-change"])(
    "tells at first, and again on %s, that the subscription holds",
    async (event) => {
      const { client, subscriber } = scene();
      const { told, listener } = listening();
      fromNodeRedis(client).subscribe("flags", listener);
      await turns();
      subscriber.channels.get("flags")?.("one");
      subscriber.emit("error", new Error("connection reset"));
      subscriber.emit(event);
      expect(told).toEqual(["subscribed", "message one", "subscribed"]);
    },
  );

  it("tells that the client could not begin, or gave up", async () => {
    const first = scene();
    first.subscriber.connectError = new Error("no root node");
    const { told, listener } = listening();
    fromNodeRedis(first.client).subscribe("flags", listener);
    await turns();
    expect(told).toEqual(["failed: Error: no root node"]);
    expect(first.subscriber.destroyed).toBe(1);

    const second = scene();
    const later = listening();
    fromNodeRedis(second.client).subscribe("flags", later.listener);
    await turns();
    second.subscriber.emit("terminated", new Error("retries exhausted"));
    expect(later.told).toEqual(["subscribed", "failed: Error: retries exhausted"]);
  });

  it("tells nothing after the end of the subscription, and survives a client that is closed already", async () => {
    const { client, subscriber } = scene();
    const { told, listener } = listening();
    const end = fromNodeRedis(client).subscribe("flags", listener);
    end();
    await turns();
    subscriber.channels.get("flags")?.("late");
    expect(told).toEqual([]);
    expect(subscriber.destroyed).toBe(1);
  });

  it("subscribes by the client that was given for it, which a pool needs", async () => {
    const { pool, subscriber } = scene();
    const without = listening();
    fromNodeRedis(pool).subscribe("flags", without.listener);
    const { told, listener } = listening();
    const redis = fromNodeRedis(pool, { subscriber: { duplicate: () => subscriber } });
    redis.subscribe("flags", listener);
    await turns();
    expect(without.told).toEqual([
      "failed: Error: a pool of node-redis needs the option subscriber for subscriptions",
    ]);
    expect(told).toEqual(["subscribed"]);
  });
});
