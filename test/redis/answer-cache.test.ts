import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../src/core/options.js";
import { type RedisAnswerCacheOptions, redisAnswerCache } from "../../src/redis/answer-cache.js";
import type { RedisClient } from "../../src/redis/client.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";

const bytes = (...values: number[]) => Uint8Array.of(...values);

/** Some processes with a cache each, over a Redis that keeps values by key, and can be made to fail. */
function scene(options: RedisAnswerCacheOptions = {}, processes = 1) {
  const clock = new VirtualClock();
  const values = new Map<string, { readonly value: string; readonly untilMs: number }>();
  const redis: { fate: "answers" | "refuses" | "hangs" | "full"; asked: string[] } = {
    fate: "answers",
    asked: [],
  };
  const evalsha: RedisClient["evalsha"] = async (_sha1, [key = ""], args) => {
    redis.asked.push(key);
    if (redis.fate === "hangs") return new Promise(() => {});
    if (redis.fate === "refuses") throw new Error("connect ECONNREFUSED");
    const nowUs = `${clock.wallNow()}000`;
    const [value, ttlMs] = args;
    if (args.length === 3 && value !== undefined) {
      if (redis.fate === "full") throw new Error("OOM command not allowed");
      values.set(key, { value, untilMs: clock.now() + Number(ttlMs) });
      return [nowUs, "ran"];
    }
    const kept = values.get(key);
    if (kept === undefined || kept.untilMs <= clock.now()) return [nowUs, "ran"];
    return [nowUs, "ran", kept.value, `${kept.untilMs - clock.now()}`];
  };
  const client: RedisClient = {
    evalsha,
    eval: () => Promise.reject(new Error("no test needs it")),
    subscribe: () => {
      throw new Error("no test subscribes");
    },
  };
  const errors: unknown[] = [];
  const onError = (error: unknown) => errors.push(error);
  const caches = Array.from({ length: processes }, () =>
    redisAnswerCache(client, { clock, onError, ...options }),
  );
  const [cache = redisAnswerCache(client), other = cache] = caches;
  const get = async (by = cache, key = "k") => {
    const found = await clock.until(Promise.resolve(by.get(key)));
    return found === undefined || found === null ? undefined : [...found];
  };
  const set = (value: Uint8Array, by = cache, ttlMs = 60_000) =>
    clock.until(Promise.resolve(by.set("k", value, ttlMs)));
  return { clock, redis, values, errors, cache, other, get, set };
}

describe("answers in Redis", () => {
  it("are found by another process, byte for byte", async () => {
    const { get, set, other } = scene({}, 2);
    const all = Uint8Array.from({ length: 256 }, (_, index) => index);
    await set(all);
    expect(await get(other)).toEqual([...all]);
  });

  it("of a slice of a larger buffer are stored without the rest", async () => {
    const { get, set, other } = scene({}, 2);
    await set(bytes(1, 2, 3, 4).subarray(1, 3));
    expect(await get(other)).toEqual([2, 3]);
  });

  it("have keys of one length, under the prefix", async () => {
    const { cache, clock, redis } = scene({ prefix: "shop:" });
    for (const key of ["k", "x".repeat(10_000), "a}b{c"]) {
      await clock.until(Promise.resolve(cache.get(key)));
    }
    expect(new Set(redis.asked).size).toBe(3);
    for (const key of redis.asked) expect(key).toMatch(/^shop:\{answer:[\w-]{43}\}$/);
  });

  it("are not asked for again within memoryMs, and after that are those of whoever stored last", async () => {
    const { clock, redis, get, set, other } = scene({ memoryMs: 500 }, 2);
    await set(bytes(1));
    await set(bytes(2), other);
    const asked = redis.asked.length;
    expect(await get()).toEqual([1]);
    expect(redis.asked).toHaveLength(asked);
    await clock.pass(500);
    expect(await get()).toEqual([2]);
    expect(await get()).toEqual([2]);
    expect(redis.asked).toHaveLength(asked + 1);
  });

  it("expire in this process when they do in Redis", async () => {
    const { clock, get, set, other } = scene({}, 2);
    await set(bytes(1), undefined, 3_000);
    await clock.pass(2_000);
    expect(await get(other)).toEqual([1]);
    await clock.pass(1_000);
    expect(await get(other)).toBeUndefined();
  });

  it("that Redis has dropped are found in this process", async () => {
    const { clock, values, get, set } = scene();
    await set(bytes(1));
    values.clear();
    await clock.pass(2_000);
    expect(await get()).toEqual([1]);
  });
});

describe("a Redis that does not answer", () => {
  it("costs the first question 50 ms, and the next ones nothing", async () => {
    const { clock, redis, cache, get, set } = scene({ memoryMs: 0 });
    await set(bytes(1));
    redis.fate = "hangs";
    const startMs = clock.now();
    expect(await get()).toEqual([1]);
    expect(clock.now() - startMs).toBe(50);
    expect(cache.away).toBe(true);
    expect(cache.get("k")).toEqual(bytes(1));
    expect(cache.get("other")).toBeUndefined();
    expect(cache.set("k", bytes(2), 1_000)).toBeUndefined();
    expect(cache.get("k")).toEqual(bytes(2));
    expect(cache.snapshot()).toMatchObject({ away: true, failures: 1, entries: 1 });
  });

  it("is asked again once per second, and shares when it answers", async () => {
    const { clock, redis, cache, get, errors } = scene();
    redis.fate = "refuses";
    for (let n = 0; n < 30; n += 1) {
      await get();
      await clock.pass(100);
    }
    expect(redis.asked.length).toBeLessThanOrEqual(4);
    expect(errors.length).toBeLessThanOrEqual(4);
    redis.fate = "answers";
    await clock.pass(1_000);
    await get();
    expect(cache.away).toBe(false);
  });

  it("is away when an answer cannot be stored, without an error for the call", async () => {
    const { redis, cache, set, errors } = scene();
    redis.fate = "refuses";
    await set(bytes(1));
    expect(cache.away).toBe(true);
    expect(errors).toHaveLength(1);
  });

  it("is not away when it is only full: it can be read", async () => {
    const { clock, redis, cache, get, set } = scene();
    await set(bytes(1));
    redis.fate = "full";
    await set(bytes(2));
    expect(cache.away).toBe(false);
    await clock.pass(1_500);
    const asked = redis.asked.length;
    expect(await get()).toEqual([1]);
    expect(redis.asked).toHaveLength(asked + 1);
  });

  it("leaves nothing without a memory", async () => {
    const { redis, get, set } = scene({ memory: false });
    await set(bytes(1));
    expect(await get()).toEqual([1]);
    redis.fate = "refuses";
    expect(await get()).toBeUndefined();
  });

  it("leaves no timer behind", async () => {
    const { clock, redis, get } = scene();
    redis.fate = "hangs";
    await get();
    expect(clock.pending.refs).toBe(0);
  });
});

it.each<[string, unknown]>([
  ["memory", 5],
  ["memory.maxEntries", { maxEntries: 0 }],
  ["memoryMs", -1],
  ["timeoutMs", 0],
  ["onError", "log"],
  ["prefix", "{"],
  ["ttlMs", 5],
])("refuses the option %s: %s", (option, value) => {
  const client: RedisClient = {
    evalsha: async () => [],
    eval: async () => [],
    subscribe: () => () => {},
  };
  const [name = ""] = option.split(".");
  const build = () => redisAnswerCache(client, { [name]: value });
  expect(build).toThrow(InvalidOptionError);
  expect(build).toThrow(`redisAnswerCache.${option}`);
});
