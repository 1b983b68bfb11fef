import { functionSource } from "grpc-weir/config";
import { describe, expect, it, onTestFinished } from "vitest";
import type { ChannelListener, RedisClient } from "../../src/redis/client.js";
import { type RedisPoliciesOptions, redisPolicies } from "../../src/redis/policies.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { attempts, weirOf } from "../config/told-weir.js";

/** A Redis with one document, under a virtual clock. */
function scene(options: RedisPoliciesOptions = {}, key = "weir:{policies:all}") {
  const clock = new VirtualClock();
  const redis = { document: "", down: false, listener: undefined as ChannelListener | undefined };
  const errors: string[] = [];
  const client: RedisClient = {
    evalsha: async (_sha1, keys, args) => {
      expect(keys).toEqual([key]);
      if (redis.down) throw new Error("connect ECONNREFUSED");
      const ran = [`${clock.wallNow() * 1_000}`, "ran"];
      if (args.length === 1) return [...ran, redis.document];
      expect(args[0]).toBe(key);
      redis.document = args[1] ?? "";
      redis.listener?.onMessage("");
      return ran;
    },
    eval: () => Promise.reject(new Error("all scripts are known")),
    subscribe: (channel, listener) => {
      expect(channel).toBe(key);
      redis.listener = listener;
      return () => {
        redis.listener = undefined;
      };
    },
  };
  const report = (error: unknown) => void errors.push(String(error));
  const policies = redisPolicies(client, { clock, onError: report, ...options });
  return { clock, redis, policies, errors };
}

describe("policies in Redis", () => {
  it("hold in each process as soon as they are written, and the last known ones while Redis is away", async () => {
    const { clock, redis, policies } = scene();
    const { now, told, weir } = weirOf(functionSource(policies), clock);
    await clock.pass(0);
    expect(now()).toBeUndefined();
    await policies.write(attempts(4));
    await clock.pass(0);
    expect(now()).toBe(4);
    redis.down = true;
    await clock.pass(60_000);
    expect(now()).toBe(4);
    redis.down = false;
    redis.document = "";
    await clock.pass(60_000);
    expect(now()).toBe(4);
    redis.document = attempts(5);
    redis.listener?.onSubscribed();
    await clock.pass(0);
    expect(now()).toBe(5);
    expect(told).toEqual([
      "client.retry undefined given policies:1",
      "refused policies",
      "client.retry.maxAttempts 4 5 policies:1",
    ]);
    weir.close();
    expect(redis.listener).toBeUndefined();
  });

  it("are several documents, by name, and a subscription that has failed is reported", async () => {
    const { policies, redis, errors } = scene(
      { name: "orders", prefix: "shop:" },
      "shop:{policies:orders}",
    );
    await policies.write(attempts(2));
    expect(await policies.read()).toBe(attempts(2));
    onTestFinished(policies.onChange(() => {}));
    redis.listener?.onFailed(new Error("gone"));
    expect(errors).toEqual(["Error: gone"]);
  });

  it.each<[() => unknown, RegExp]>([
    [() => scene({ nam: "x" } as object), /redisPolicies.nam is not an option; did you mean name/],
    [() => scene({ name: "" }), /redisPolicies.name must be a name/],
  ])("are refused where the options are wrong (%#)", (make, message) => {
    expect(make).toThrow(message);
  });

  it("refuse what is no document", async () => {
    await expect(scene().policies.write("")).rejects.toThrow(/redisPolicies.write must be/);
  });
});
