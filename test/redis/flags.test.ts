import { describe, expect, it, onTestFinished } from "vitest";
import { InvalidOptionError } from "../../src/core/options.js";
import { type RedisFlagsOptions, redisFlags } from "../../src/redis/flags.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { FakeFlagsRedis } from "./fake-flags-redis.js";

async function scene(options: RedisFlagsOptions = {}, prepare = (_redis: FakeFlagsRedis) => {}) {
  const clock = new VirtualClock();
  const redis = new FakeFlagsRedis(clock);
  prepare(redis);
  const errors: string[] = [];
  const flags = redisFlags(redis, {
    clock,
    random: () => 0,
    onError: (error, where) => void errors.push(`${where}: ${String(error)}`),
    ...options,
  });
  onTestFinished(() => flags.close());
  let told = 0;
  flags.onChange(() => {
    told += 1;
  });
  await clock.pass(0);
  return { clock, redis, flags, errors, told: () => told };
}

describe("flags in Redis", () => {
  it("are read at the start, so that what is off is off from the first call on", async () => {
    const { flags } = await scene({}, (redis) => {
      redis.hash = new Map([
        ["#", "3"],
        ["kill.a.B", '{"value":"true","atMs":1,"by":"ann@ops-1"}'],
        ["mode.breaker", "observe"],
      ]);
    });
    expect(await flags.ready).toBe(true);
    expect(flags.flag("kill.a.B")).toBe(true);
    expect(flags.setBy("kill.a.B")).toBe("ann@ops-1");
    // Set by hand.
    expect(flags.flag("mode.breaker")).toBe("observe");
    expect(flags.flag("#")).toBeUndefined();
    expect([...flags.names()]).toEqual(["kill.a.B", "mode.breaker"]);
  });

  it("arrive by message when they are set, here or elsewhere", async () => {
    const { clock, redis, flags, told } = await scene();
    await flags.set("kill", true, { by: "ann" });
    await clock.pass(0);
    expect(flags.flag("kill")).toBe(true);
    expect(flags.setBy("kill")).toBe("ann");
    expect(told()).toBe(1);
    redis.hash?.set("mode.retry", "off");
    redis.listener?.onMessage("");
    await clock.pass(0);
    expect(flags.flag("mode.retry")).toBe("off");
    expect(await flags.unset("kill")).toBe(true);
    expect(await flags.unset("kill")).toBe(false);
    await clock.pass(0);
    expect(flags.flag("kill")).toBeUndefined();
    expect(told()).toBe(3);
  });

  it("are read again at intervals, because a message may be lost", async () => {
    const { clock, redis, flags, told } = await scene({ pollMs: 5_000 });
    redis.hash = new Map([["kill", "true"]]);
    await clock.pass(4_900);
    expect(flags.flag("kill")).toBeUndefined();
    await clock.pass(200);
    expect(flags.flag("kill")).toBe(true);
    await clock.pass(20_000);
    expect(told()).toBe(1);
    expect(clock.pending.refs).toBe(0);
  });

  it("are read again when a message comes while they are being read", async () => {
    const { clock, redis } = await scene();
    const before = redis.reads;
    for (let n = 0; n < 10; n += 1) redis.listener?.onMessage("");
    await clock.pass(0);
    expect(redis.reads - before).toBe(2);
  });

  it("are read again when the subscription holds again", async () => {
    const { clock, redis, flags } = await scene();
    redis.hash = new Map([["kill", "true"]]);
    redis.listener?.onSubscribed();
    await clock.pass(0);
    expect(flags.flag("kill")).toBe(true);
  });

  it("keep their last values while Redis is away, which is told and reported once", async () => {
    const { clock, redis, flags, errors, told } = await scene({ pollMs: 5_000 }, (its) => {
      its.hash = new Map([["kill", "true"]]);
    });
    const before = told();
    redis.down = true;
    await clock.pass(60_000);
    expect(flags.flag("kill")).toBe(true);
    expect(flags.away).toBe(true);
    expect(told() - before).toBe(1);
    expect(errors).toEqual(["redisFlags: RedisError: read of the flags: connect ECONNREFUSED"]);
    redis.down = false;
    redis.hash?.delete("kill");
    redis.hash?.set("#", "2");
    await clock.pass(1_000);
    expect(flags.away).toBe(false);
    expect(flags.flag("kill")).toBeUndefined();
    expect(told() - before).toBe(2);
  });

  it("keep their last values when Redis comes back without them, until flags are set again", async () => {
    const { clock, redis, flags, errors } = await scene({}, (its) => {
      its.hash = new Map([
        ["kill.a.B", "true"],
        ["#", "1"],
      ]);
    });
    redis.hash = undefined;
    redis.listener?.onSubscribed();
    await clock.pass(5_000);
    expect(flags.flag("kill.a.B")).toBe(true);
    expect(flags.away).toBe(true);
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatch(/Redis has lost the flags/);
    expect(await flags.unset("kill.a.B")).toBe(false);
    await clock.pass(0);
    expect(flags.flag("kill.a.B")).toBeUndefined();
    expect(flags.away).toBe(false);
  });

  it("have no first value while Redis does not answer: who waits for it waits for a time", async () => {
    const { clock, flags, errors } = await scene({ firstValuesMs: 300 }, (redis) => {
      redis.down = true;
    });
    let ready: boolean | undefined;
    void flags.ready.then((read) => {
      ready = read;
    });
    await clock.pass(290);
    expect(ready).toBeUndefined();
    await clock.pass(20);
    expect(ready).toBe(false);
    expect(flags.flag("kill")).toBeUndefined();
    expect(flags.away).toBe(true);
    expect(errors).toHaveLength(1);
  });

  it("that are set for a time are gone after it, also when Redis is away then", async () => {
    const { clock, redis, flags, told } = await scene();
    await flags.set("kill", true, { forMs: 60_000 });
    await flags.set("skip.maps", true, { forMs: 90_000 });
    await flags.set("mode.retry", "off");
    await clock.pass(59_000);
    expect(flags.flag("kill")).toBe(true);
    redis.down = true;
    await clock.pass(2_000);
    expect(flags.flag("kill")).toBeUndefined();
    expect(flags.flag("skip.maps")).toBe(true);
    const before = told();
    await clock.pass(30_000);
    expect(told()).toBeGreaterThan(before);
    expect([...flags.names()]).toEqual(["mode.retry"]);
  });

  it("are subscribed to anew when the client has given up, which is reported once", async () => {
    const { clock, redis, flags, errors } = await scene({ pollMs: 1_000 });
    redis.listener?.onFailed(new Error("given up"));
    await clock.pass(1_100);
    expect(redis.subscriptions).toBe(2);
    redis.listener?.onFailed(new Error("given up"));
    await clock.pass(1_100);
    expect(redis.subscriptions).toBe(3);
    expect(errors).toEqual(["redisFlags.subscribe: Error: given up"]);
    redis.listener?.onSubscribed();
    await clock.pass(0);
    redis.hash = new Map([["kill", "true"]]);
    redis.listener?.onMessage("");
    await clock.pass(0);
    expect(flags.flag("kill")).toBe(true);
  });

  it("work without messages where the client cannot subscribe", async () => {
    const { clock, redis, flags, errors } = await scene({ pollMs: 1_000 }, (its) => {
      its.subscribe = () => {
        throw new Error("no pub/sub here");
      };
    });
    redis.hash = new Map([["kill", "true"]]);
    await clock.pass(1_100);
    expect(flags.flag("kill")).toBe(true);
    await clock.pass(10_000);
    expect(errors).toEqual(["redisFlags.subscribe: Error: no pub/sub here"]);
  });

  it("leave nothing behind when they are closed, and keep their values", async () => {
    const { clock, redis, flags, told } = await scene({}, (its) => {
      its.hash = new Map([["kill", "true"]]);
    });
    const before = told();
    flags.close();
    expect(redis.listener).toBeUndefined();
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
    expect(flags.flag("kill")).toBe(true);
    await clock.pass(60_000);
    expect(told()).toBe(before);
  });

  it.each<[RedisFlagsOptions, RegExp]>([
    [{ pollMs: 99 }, /redisFlags\.pollMs must be milliseconds from 100/],
    [{ pollMs: Number.NaN }, /redisFlags\.pollMs/],
    [{ firstValuesMs: -1 }, /redisFlags\.firstValuesMs/],
    [{ prefix: "{a}" }, /redisFlags\.prefix/],
    [{ random: 1 as never }, /redisFlags\.random must be a function/],
    [{ poll: 1 } as never, /redisFlags\.poll is not an option/],
  ])("refuse the options %j", (options, says) => {
    const made = () => redisFlags(new FakeFlagsRedis(new VirtualClock()), options);
    expect(made).toThrow(InvalidOptionError);
    expect(made).toThrow(says);
  });

  it.each([0, -1, Number.NaN])("refuse to be set for %s ms", async (forMs) => {
    const { flags } = await scene();
    await expect(flags.set("kill", true, { forMs })).rejects.toThrow(/redisFlags\.set\.forMs/);
  });
});
