import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../src/core/options.js";
import type { RedisClient } from "../../src/redis/client.js";
import { type RedisQuotaOptions, redisQuotaStore } from "../../src/redis/quota-store.js";
import { RedisError } from "../../src/redis/script.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { askedClient } from "./asked-client.js";

const rate = { ratePerSecond: 10, burst: 10 };

function scene(answer: () => Promise<unknown>, options: RedisQuotaOptions = {}) {
  const { client, asked } = askedClient(answer);
  const clock = new VirtualClock();
  const errors: unknown[] = [];
  const onError = (error: unknown) => errors.push(error);
  const store = redisQuotaStore(client, { clock, onError, ...options });
  return { clock, store, asked, errors };
}

describe("a quota store in Redis", () => {
  it("asks by key, rate and tokens, and names the key after its prefix", async () => {
    const { clock, store, asked } = scene(async () => [`${Date.now()}000`, "ran", "2", "7.5"], {
      prefix: "shop:",
    });
    const answer = await clock.until(Promise.resolve(store.take("a", 2, rate, 0)));
    expect(answer).toEqual({ granted: true });
    expect(asked[0]?.keys).toEqual(["shop:{quota:a}"]);
    expect(asked[0]?.args.slice(0, -1)).toEqual(["10", "10", "0", "2", "2"]);
  });

  it.each([
    ["too few numbers", ["1", "ran", "2"]],
    ["no numbers", ["1", "ran", "two", "many"]],
    ["nothing", []],
  ])("is alone when Redis answers with %s", async (_what, reply) => {
    const { clock, store, errors } = scene(async () => reply);
    const answer = await clock.until(Promise.resolve(store.take("a", 2, rate, 0)));
    expect(answer).toEqual({ granted: true, alone: true });
    expect(errors).toEqual([expect.any(RedisError)]);
    expect(store.snapshot()).toMatchObject({ away: true, failures: 1, alone: 1 });
  });

  it("has an answer within callWaitMs from a client that never settles", async () => {
    const { clock, store } = scene(() => new Promise(() => {}), { callWaitMs: 25 });
    const startMs = clock.now();
    const answer = await clock.until(Promise.resolve(store.take("a", 1, rate, 0)));
    expect(answer).toEqual({ granted: true, alone: true });
    expect(clock.now() - startMs).toBe(25);
  });

  it.each<[string, unknown]>([
    ["leaseShare", 1.1],
    ["leaseShare", -0.1],
    ["leaseMs", 0],
    ["idleMs", 1],
    ["callWaitMs", 0],
    ["localShare", 0],
    ["localShare", 2],
    ["maxKeys", 0],
    ["onError", "log"],
    ["prefix", "a{b"],
    ["timeoutMs", 0],
    ["leaseTime", 5],
  ])("refuses the option %s: %s", (option, value) => {
    const client: RedisClient = {
      evalsha: async () => [],
      eval: async () => [],
      subscribe: () => () => {},
    };
    const build = () => redisQuotaStore(client, { [option]: value });
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(`redisQuotaStore.${option}`);
  });
});
