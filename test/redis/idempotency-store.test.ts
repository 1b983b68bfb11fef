import { beforeEach, describe, expect, it } from "vitest";
import type { IdempotencyStore } from "../../src/policies/idempotency/store.js";
import type { RedisClient } from "../../src/redis/client.js";
import { redisIdempotencyStore } from "../../src/redis/idempotency-store.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";

/** Keeps the questions until the test answers them. */
class SlowRedis implements RedisClient {
  readonly asked: {
    readonly keys: readonly string[];
    readonly args: readonly string[];
    readonly answer: (...texts: readonly string[]) => void;
    readonly fail: (error: Error) => void;
  }[] = [];

  evalsha(_sha1: string, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const answer = (...texts: readonly string[]) => resolve(["0", "ran", ...texts]);
      this.asked.push({ keys, args, answer, fail: reject });
    });
  }

  eval(): Promise<unknown> {
    throw new Error("every script is known");
  }

  subscribe(): () => void {
    throw new Error("no store of answers subscribes");
  }

  at(index: number) {
    const question = this.asked[index];
    if (question === undefined) throw new Error(`there was no question ${index}`);
    return question;
  }
}

let clock: VirtualClock;
let redis: SlowRedis;
let store: IdempotencyStore;
beforeEach(() => {
  clock = new VirtualClock();
  redis = new SlowRedis();
  store = redisIdempotencyStore(redis, { timeoutMs: 100, prefix: "shop:", clock });
});

const claim = async (holder: string) =>
  store.claim("k", { fingerprint: "f", holder, leaseMs: 30_000, ttlMs: 60_000 });
/** A claim that is given up. */
async function lateClaim(holder: string): Promise<void> {
  const asked = expect(claim(holder)).rejects.toThrow("did not answer in 100 ms");
  await clock.pass(100);
  await asked;
}

describe("the idempotency store in Redis", () => {
  it("asks about one key, and sends bytes as text", async () => {
    const asked = store.complete("k", 7, Uint8Array.of(0, 255, 128), 1_000);
    expect(redis.at(0).keys).toEqual(["shop:{idem:k}"]);
    expect(redis.at(0).args.slice(0, -1)).toEqual(["7", "AP+A", "1000"]);
    redis.at(0).answer("yes");
    expect(await asked).toBe(true);
  });

  it("refuses an entry of another format", async () => {
    const asked = expect(claim("h")).rejects.toThrow(
      "claim of an idempotency key: the entry has another format",
    );
    redis.at(0).answer("elsewhere");
    await asked;
  });

  it.each([
    [{ prefix: "a", prefx: "a" }, "redisIdempotencyStore.prefx is not an option"],
    [{ timeoutMs: 0 }, "redisIdempotencyStore.timeoutMs must be"],
    [{ prefix: "{a}" }, "redisIdempotencyStore.prefix must be a text without { and }"],
  ])("refuses the options %j", (options, text) => {
    expect(() => redisIdempotencyStore(redis, options)).toThrow(text);
  });

  describe("gives the key back", () => {
    it("that a claim has got after it was given up", async () => {
      await lateClaim("h");
      redis.at(0).answer("started", "41");
      await clock.pass(0);
      expect(redis.asked).toHaveLength(2);
      expect(redis.at(1).args[0]).toBe("41");
    });

    it.each([["running", "1000"], ["done", ""], ["mismatch"]])(
      "not where the late answer is %s",
      async (...answer) => {
        await lateClaim("h");
        redis.at(0).answer(...answer);
        await clock.pass(0);
        expect(redis.asked).toHaveLength(1);
      },
    );

    it("not after a late error", async () => {
      await lateClaim("h");
      redis.at(0).fail(new Error("Socket closed unexpectedly"));
      await clock.pass(0);
      expect(redis.asked).toHaveLength(1);
    });

    it("not where the same holder has claimed it again meanwhile", async () => {
      await lateClaim("h");
      const again = claim("h");
      redis.at(0).answer("started", "41");
      redis.at(1).answer("started", "41");
      expect(await again).toEqual({ kind: "started", token: 41 });
      await clock.pass(0);
      expect(redis.asked).toHaveLength(2);
    });

    it("once both claims of the same holder were given up", async () => {
      await lateClaim("h");
      await lateClaim("h");
      redis.at(0).answer("started", "41");
      await clock.pass(0);
      expect(redis.asked).toHaveLength(2);
      redis.at(1).answer("started", "41");
      await clock.pass(0);
      expect(redis.asked).toHaveLength(3);
    });
  });
});
