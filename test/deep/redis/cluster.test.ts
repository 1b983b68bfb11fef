import { Cluster } from "ioredis";
import { createCluster } from "redis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fromIoredis, fromNodeRedis } from "../../../src/redis/client.js";
import { redisIdempotencyStore } from "../../../src/redis/idempotency-store.js";
import { ScriptRunner, script } from "../../../src/redis/script.js";
import { answerKey, answerTo, bytesOf, claim, tokenOf, ttlMs } from "./claims.js";
import { inspect, type OpenClient } from "./clients.js";
import { type RedisCluster, startCluster } from "./redis-cluster.js";
import { until } from "./until.js";

const libraries: Readonly<Record<string, (port: number) => Promise<OpenClient>>> = {
  ioredis: async (port) => {
    const cluster = new Cluster([{ host: "127.0.0.1", port }]);
    cluster.on("error", () => {});
    return { client: fromIoredis(cluster), close: () => cluster.disconnect() };
  },
  "node-redis": async (port) => {
    const cluster = createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${port}` }] });
    cluster.on("error", () => {});
    await cluster.connect();
    return { client: fromNodeRedis(cluster), close: () => cluster.destroy() };
  },
};

let cluster: RedisCluster;
beforeAll(async () => {
  cluster = await startCluster(3);
}, 60_000);
afterAll(() => cluster.close());

describe.each(Object.entries(libraries))(
  "the idempotency store in a cluster, over %s",
  (name, open) => {
    const prefix = `${name}:`;
    let opened: OpenClient;
    beforeAll(async () => {
      const [first] = cluster.nodes;
      if (first === undefined) throw new Error("no node");
      opened = await open(first.port);
    });
    afterAll(() => opened.close());
    const store = () => redisIdempotencyStore(opened.client, { prefix, timeoutMs: 10_000 });

    it("places entries on every node, and finds them again", async () => {
      const keys = Array.from({ length: 60 }, (_, index) => `order-${index}`);
      await Promise.all(keys.map((key) => answerKey(store(), key, key)));
      expect(await Promise.all(keys.map((key) => answerTo(store(), key)))).toEqual(keys);
      const perNode = await Promise.all(
        cluster.nodes.map(({ port }) =>
          inspect(port, (admin) => admin.call("KEYS", `${prefix}*`)).then((found) => found),
        ),
      );
      const counts = perNode.map((found) => (Array.isArray(found) ? found.length : 0));
      expect(Math.min(...counts)).toBeGreaterThan(0);
      expect(counts.reduce((sum, count) => sum + count)).toBe(60);
    });

    it("hears what a script publishes, whichever node that runs on", async () => {
      const publish = script(
        "publication",
        "redis.call('PUBLISH', ARGV[1], ARGV[2]) return {'ok'}",
      );
      const runner = new ScriptRunner("test", opened.client, { timeoutMs: 10_000 });
      const messages: string[] = [];
      let subscribed = false;
      const end = opened.client.subscribe(`${name}-flags`, {
        onMessage: (message) => void messages.push(message),
        onSubscribed: () => {
          subscribed = true;
        },
        onFailed: (error) => void messages.push(String(error)),
      });
      try {
        await until(() => subscribed);
        const keys = Array.from({ length: 20 }, (_, index) => `key-${index}`);
        for (const key of keys) {
          await runner.run(publish, [runner.key("test", key)], [`${name}-flags`, key]);
        }
        await until(() => messages.length >= keys.length);
        expect(messages.sort()).toEqual(keys.sort());
      } finally {
        end();
      }
    });

    it("follows a key whose slot moves to another node, also to one that does not know the scripts", async () => {
      await answerKey(store(), "answered", "1");
      const token = tokenOf(await claim(store(), "running"));
      for (const { port } of cluster.nodes) await inspect(port, (admin) => admin.script("FLUSH"));
      await cluster.move(`${prefix}{idem:answered}`, async () => {
        expect(await answerTo(store(), "answered")).toBe("1");
      });
      expect(await answerTo(store(), "answered")).toBe("1");
      await cluster.move(`${prefix}{idem:running}`, async () => {
        expect(await claim(store(), "running")).toMatchObject({ kind: "running" });
      });
      expect(await store().complete("running", token, bytesOf("2"), ttlMs)).toBe(true);
      expect(await answerTo(store(), "running")).toBe("2");
    });
  },
);
