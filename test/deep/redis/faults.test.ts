import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "redis";
import { afterEach, describe, expect, it } from "vitest";
import type { IdempotencyStore } from "../../../src/policies/idempotency/store.js";
import { fromNodeRedis } from "../../../src/redis/client.js";
import { redisIdempotencyStore } from "../../../src/redis/idempotency-store.js";
import { RedisError, type RedisOptions } from "../../../src/redis/script.js";
import {
  answerKey,
  answerTo,
  bytesOf,
  claim,
  leaseMs,
  rejection,
  tokenOf,
  ttlMs,
} from "./claims.js";
import { inspect, libraries, openIoredis } from "./clients.js";
import { startProxy, type TcpProxy } from "./proxy.js";
import { type RedisProcess, startRedis } from "./redis-server.js";
import { until } from "./until.js";

/** For questions that are to be answered, however busy the machine. */
const patient: RedisOptions = { timeoutMs: 10_000 };

/** Such a question has failed for Redis, too, when so much more time has passed: see ScriptRunner. */
const impatient: RedisOptions = { timeoutMs: 500 };
const lateMs = 600;

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

describe.each(Object.entries(libraries))("the idempotency store over %s", (_name, open) => {
  async function start(args: readonly string[] = []): Promise<RedisProcess> {
    const redis = await startRedis(args);
    ends.push(() => redis.close());
    return redis;
  }

  async function storeAt(port: number, options = patient): Promise<IdempotencyStore> {
    const { client, close } = await open(port);
    ends.push(close);
    return redisIdempotencyStore(client, options);
  }

  it("sends its scripts again after SCRIPT FLUSH, and then goes by their digests", async () => {
    const redis = await start();
    const store = await storeAt(redis.port);
    await claim(store, "a");
    await inspect(redis.port, (admin) => admin.script("FLUSH"));
    const before = await calls(redis);
    await claim(store, "b");
    await claim(store, "c");
    const after = await calls(redis);
    expect(after.eval - before.eval).toBe(1);
    expect(after.evalsha - before.evalsha).toBe(2);
  });

  it("goes on by itself after a restart, where what was lost counts as never claimed", async () => {
    const redis = await start();
    const store = await storeAt(redis.port);
    const lost = tokenOf(await claim(store, "k"));
    await redis.restart();
    const token = tokenOf(await until(() => claim(store, "k")));
    expect(token).toBeGreaterThan(lost);
    expect(await store.complete("k", lost, bytesOf("old"), ttlMs)).toBe(false);
    expect(await store.complete("k", token, bytesOf("new"), ttlMs)).toBe(true);
  });

  it("ends a question in its time when Redis is killed, and one that is resent later does nothing", async () => {
    const redis = await start();
    const store = await storeAt(redis.port, impatient);
    await until(() => claim(store, "warm"));
    // It is on its way, and Redis has not got to it.
    redis.pause();
    const inFlight = rejection(claim(store, "k"));
    await redis.kill();
    const inQueue = rejection(claim(store, "l"));
    for (const { error, tookMs } of await Promise.all([inFlight, inQueue])) {
      expect(error).toBeInstanceOf(RedisError);
      expect(tookMs).toBeLessThan(5_000);
    }
    await sleep(lateMs);
    await redis.restart();
    const later = await storeAt(redis.port);
    // What the client has kept is sent before this.
    await until(() => claim(store, "last"));
    expect(await claim(later, "k")).toMatchObject({ kind: "started" });
    expect(await claim(later, "l")).toMatchObject({ kind: "started" });
  });

  it("ends a question in its time when Redis hangs, and a claim that is run later does nothing", async () => {
    const redis = await start();
    const store = await storeAt(redis.port, impatient);
    await until(() => claim(store, "warm"));
    const before = await calls(redis);
    redis.pause();
    const { error, tookMs } = await rejection(claim(store, "k"));
    await sleep(lateMs);
    redis.resume();
    expect(error).toMatchObject({
      message: "claim of an idempotency key: Redis did not answer in 500 ms",
    });
    expect(tookMs).toBeGreaterThanOrEqual(499);
    expect(tookMs).toBeLessThan(5_000);
    // Redis got to it after all.
    await until(
      () => calls(redis),
      ({ evalsha }) => evalsha > before.evalsha,
    );
    const later = await storeAt(redis.port);
    expect(await claim(later, "k")).toMatchObject({ kind: "started" });
  });

  it("stores an answer that Redis gets to late: the call has run", async () => {
    const redis = await start();
    const store = await storeAt(redis.port, impatient);
    const token = tokenOf(await until(() => claim(store, "k", "h")));
    redis.pause();
    const { error } = await rejection(
      Promise.resolve(store.complete("k", token, bytesOf("1"), ttlMs)),
    );
    expect(error).toBeInstanceOf(RedisError);
    await sleep(lateMs);
    redis.resume();
    const other = await storeAt(redis.port);
    expect(await until(() => answerTo(other, "k"))).toBe("1");
  });

  describe("behind a slow network", () => {
    async function slow(options?: RedisOptions): Promise<{
      proxy: TcpProxy;
      store: IdempotencyStore;
      direct: IdempotencyStore;
    }> {
      const redis = await start();
      const proxy = await startProxy(redis.port);
      ends.push(() => proxy.close());
      const store = await storeAt(proxy.port, options);
      await until(() => claim(store, "warm"));
      return { proxy, store, direct: await storeAt(redis.port) };
    }

    it("asks questions side by side", async () => {
      const { proxy, store } = await slow();
      proxy.toServerMs = 200;
      proxy.toClientMs = 200;
      const startedMs = performance.now();
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, index) => claim(store, `k${index}`)),
      );
      expect(performance.now() - startedMs).toBeGreaterThan(399);
      // One after the other they would take 20 s.
      expect(performance.now() - startedMs).toBeLessThan(10_000);
      expect(new Set(answers.map(({ kind }) => kind))).toEqual(new Set(["started"]));
    });

    it("does nothing by a claim that reaches Redis after its time", async () => {
      const { proxy, store, direct } = await slow(impatient);
      proxy.toServerMs = 1_500;
      const { error } = await rejection(claim(store, "k"));
      expect(error).toMatchObject({ message: /did not answer in 500 ms/ });
      proxy.toServerMs = 0;
      await until(() => claim(store, "after"));
      expect(await claim(direct, "k")).toMatchObject({ kind: "started" });
    });

    it("gives a key back when the answer to its claim comes after its time", async () => {
      const { proxy, store, direct } = await slow(impatient);
      // So that Redis knows the script of it.
      await direct.release("other", 1);
      proxy.toClientMs = 1_500;
      await rejection(claim(store, "k"));
      expect(await claim(direct, "k")).toMatchObject({ kind: "running" });
      await until(
        () => claim(direct, "k"),
        ({ kind }) => kind === "started",
      );
    });

    it("holds a key by a claim whose answer is lost, for the same holder and for nobody else", async () => {
      const { proxy, store, direct } = await slow({ timeoutMs: 1_000 });
      proxy.toClientMs = Number.POSITIVE_INFINITY;
      const { error } = await rejection(claim(store, "k", "h"));
      expect(error).toMatchObject({ message: /did not answer in 1000 ms/ });
      expect(await claim(direct, "k")).toMatchObject({ kind: "running" });
      const token = tokenOf(await claim(direct, "k", "h"));
      expect(await direct.release("k", token)).toBe(true);
    });
  });

  describe("of a Redis that is full and evicts nothing", () => {
    it("refuses claims with a clear error, and lets calls that run come to their end", async () => {
      const redis = await start(["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"]);
      const store = await storeAt(redis.port);
      await answerKey(store, "answered", "1");
      const running = tokenOf(await claim(store, "running"));
      const released = tokenOf(await claim(store, "released"));

      const big = new Uint8Array(60_000);
      const fill = async () => {
        for (let index = 0; index < 200; index += 1) {
          await answerKey(store, `fill${index}`, big);
        }
      };
      const { error } = await rejection(fill());
      expect(error).toBeInstanceOf(RedisError);
      expect(error).toMatchObject({ message: /^claim of an idempotency key: .*OOM/ });

      expect(await answerTo(store, "answered")).toBe("1");
      expect(await claim(store, "running")).toMatchObject({ kind: "running" });
      expect(await store.renew("running", running, leaseMs)).toBe(true);
      expect(await store.complete("running", running, bytesOf("2"), ttlMs)).toBe(true);
      expect(await answerTo(store, "running")).toBe("2");
      expect(await store.release("released", released)).toBe(true);
    });
  });

  describe("of a Redis that evicts", () => {
    it("runs a call again whose key was evicted, with a larger token that keeps the first holder out", async () => {
      const redis = await start(["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"]);
      const store = await storeAt(redis.port);
      const first = tokenOf(await claim(store, "k"));
      const big = new Uint8Array(60_000);
      let filled = 0;
      // Redis evicts the oldest of a sample, so it is not certain which entry goes when.
      const kept = () => inspect(redis.port, (admin) => admin.keys("weir:{idem:k}"));
      await until(
        async () => {
          for (const last = filled + 100; filled < last; filled += 1) {
            await answerKey(store, `fill${filled}`, big);
          }
          return kept();
        },
        (keys) => keys.length === 0,
      );

      const second = tokenOf(await claim(store, "k"));
      expect(second).toBeGreaterThan(first);
      expect(await store.complete("k", first, bytesOf("late"), ttlMs)).toBe(false);
    });
  });
});

it("the idempotency store needs no rights but those to its keys and the commands of its scripts", async () => {
  const redis = await startRedis();
  ends.push(() => redis.close());
  const commands = "+evalsha +eval +hmget +hset +hdel +hexists +pexpireat +pttl +time".split(" ");
  await inspect(redis.port, (admin) =>
    admin.acl("SETUSER", "weir", "on", ">secret", "~weir:*", "-@all", ...commands),
  );
  const user = createClient({
    username: "weir",
    password: "secret",
    socket: { port: redis.port },
    disableClientInfo: true,
  });
  user.on("error", () => {});
  await user.connect();
  ends.push(() => user.destroy());
  const store = redisIdempotencyStore(fromNodeRedis(user), patient);
  await answerKey(store, "answered", "1");
  expect(await answerTo(store, "answered")).toBe("1");
  const token = tokenOf(await claim(store, "k"));
  expect(await store.renew("k", token, leaseMs)).toBe(true);
  expect(await store.release("k", token)).toBe(true);

  const elsewhere = redisIdempotencyStore(fromNodeRedis(user), { ...patient, prefix: "other:" });
  const { error } = await rejection(claim(elsewhere, "k"));
  expect(error).toMatchObject({ message: /^claim of an idempotency key: NOPERM/ });
});

describe("tokens of the idempotency store", () => {
  it("grow also where the time of Redis is put back, past release and past the end of the lease", async () => {
    const redis = await startRedis();
    ends.push(() => redis.close());
    const { client, close } = await openIoredis(redis.port);
    ends.push(close);
    const store = redisIdempotencyStore(client, patient);
    const first = tokenOf(await claim(store, "k"));
    await store.release("k", first);
    // An hour ahead of the time of Redis, as if that had been put back by an hour since.
    const ahead = first + 3_600_000_000;
    await inspect(redis.port, (admin) =>
      admin.hset("weir:{idem:k}", { token: ahead, until: first, holder: "h", fingerprint: "f" }),
    );
    const taken = tokenOf(await claim(store, "k"));
    expect(taken).toBeGreaterThan(ahead);
    expect(await store.release("k", taken)).toBe(true);
    const keptMs = await inspect(redis.port, (admin) => admin.pttl("weir:{idem:k}"));
    expect(keptMs).toBeGreaterThan(3_500_000);
    expect(tokenOf(await claim(store, "k"))).toBeGreaterThan(taken);
  });

  it("leave nothing behind that does not expire", async () => {
    const redis = await startRedis();
    ends.push(() => redis.close());
    const { client, close } = await openIoredis(redis.port);
    ends.push(close);
    const store = redisIdempotencyStore(client, patient);
    await answerKey(store, "completed", "1");
    await claim(store, "running");
    const renewed = tokenOf(await claim(store, "renewed"));
    await store.renew("renewed", renewed, leaseMs * 2);
    const released = tokenOf(await claim(store, "released"));
    await store.release("released", released);
    const left = (key: string) => inspect(redis.port, (admin) => admin.pttl(`weir:{idem:${key}}`));
    expect(await left("completed")).toBeGreaterThan(ttlMs / 2);
    expect(await left("completed")).toBeLessThanOrEqual(ttlMs + 1);
    expect(await left("running")).toBeGreaterThan(leaseMs);
    expect(await left("renewed")).toBeGreaterThan(leaseMs * 2);
    await until(
      () => left("released"),
      (ms) => ms === -2,
    );
  });
});

/** How often scripts were run since the server has started. */
async function calls(redis: RedisProcess): Promise<{ eval: number; evalsha: number }> {
  const info = await inspect(redis.port, (admin) => admin.info("commandstats"));
  const count = (command: string) =>
    Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(info)?.[1] ?? 0);
  return { eval: count("eval"), evalsha: count("evalsha") };
}
