import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { type RedisAnswerCacheOptions, redisAnswerCache } from "../../../src/redis/answer-cache.js";
import { libraries, type OpenClient } from "./clients.js";
import { type RedisProcess, startRedis } from "./redis-server.js";

/** Within what a busy machine may need. */
const patient: RedisAnswerCacheOptions = { timeoutMs: 2_000 };

describe.each(Object.entries(libraries))("answers in a Redis, over %s", (_name, open) => {
  let redis: RedisProcess | undefined;
  const opened: OpenClient[] = [];
  afterEach(async () => {
    for (const each of opened.splice(0)) each.close();
    await redis?.close();
  });

  async function cacheOf({ port }: RedisProcess, options: RedisAnswerCacheOptions = {}) {
    const client = await open(port);
    opened.push(client);
    return redisAnswerCache(client.client, { onError: () => {}, ...options });
  }

  it("are found by other processes until they expire, and not longer", async () => {
    redis = await startRedis();
    const one = await cacheOf(redis, patient);
    const other = await cacheOf(redis, { ...patient, memory: false });
    const value = Uint8Array.from({ length: 100_000 }, (_, index) => index % 251);
    await one.set("k", value, 600);
    await one.set("late", value, 60_000);
    expect(Buffer.compare((await other.get("k")) ?? Buffer.alloc(0), value)).toBe(0);
    await sleep(800);
    expect(await other.get("k")).toBeUndefined();
    expect(await one.get("k")).toBeUndefined();
    expect((await other.get("late"))?.length).toBe(100_000);
  });

  it("come from this process while Redis is killed, and are shared again when it is back", async () => {
    const server = await startRedis();
    redis = server;
    const one = await cacheOf(server, { memoryMs: 0 });
    const other = await cacheOf(server, { memoryMs: 0 });
    await one.set("k", Uint8Array.of(1), 60_000);
    await server.kill();
    await sleep(50);
    const sinceMs = performance.now();
    expect([...((await one.get("k")) ?? [])]).toEqual([1]);
    expect(performance.now() - sinceMs).toBeLessThan(1_500);
    expect(one.away).toBe(true);
    await server.restart();
    await expect
      .poll(
        async () => {
          await one.set("k", Uint8Array.of(2), 60_000);
          return [...((await other.get("k")) ?? [])];
        },
        { timeout: 10_000, interval: 100 },
      )
      .toEqual([2]);
    expect(one.away).toBe(false);
  });

  it("cost a call no more than its time while Redis hangs", async () => {
    const server = await startRedis();
    redis = server;
    const cache = await cacheOf(server, { memoryMs: 0 });
    await cache.set("k", Uint8Array.of(1), 60_000);
    server.pause();
    const sinceMs = performance.now();
    for (let n = 0; n < 100; n += 1) expect([...((await cache.get("k")) ?? [])]).toEqual([1]);
    expect(performance.now() - sinceMs).toBeLessThan(1_000);
    expect(cache.away).toBe(true);
    server.resume();
    await expect
      .poll(
        async () => {
          await cache.get("k");
          return cache.away;
        },
        { timeout: 10_000, interval: 100 },
      )
      .toBe(false);
  });
});
