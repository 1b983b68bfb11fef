import { beforeEach, describe, expect, it } from "vitest";
import type { RedisClient } from "../../src/redis/client.js";
import { RedisError, ScriptRunner, script } from "../../src/redis/script.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";

/** Answers each question as the test says, in the order of the questions. */
class FakeRedis implements RedisClient {
  readonly asked: { readonly how: "evalsha" | "eval"; readonly args: readonly string[] }[] = [];
  readonly #clock: VirtualClock;
  /** How far the clock of Redis is ahead of the wall clock of this process, in milliseconds. */
  aheadMs = 0;
  knows = true;
  answer: (how: "evalsha" | "eval") => Promise<unknown> = async () => this.ran("done");

  constructor(clock: VirtualClock) {
    this.#clock = clock;
  }

  ran(...texts: readonly string[]): readonly string[] {
    return [`${this.nowUs}`, "ran", ...texts];
  }

  get nowUs(): number {
    return (this.#clock.wallNow() + this.aheadMs) * 1_000;
  }

  /** The time by which the last question had to begin, from the time of Redis on. */
  get leftMs(): number {
    return (Number(this.asked.at(-1)?.args.at(-1)) - this.nowUs) / 1_000;
  }

  async evalsha(_sha1: string, _keys: readonly string[], args: readonly string[]) {
    this.asked.push({ how: "evalsha", args });
    if (!this.knows) throw new Error("NOSCRIPT No matching script. Please use EVAL.");
    return this.#obey("evalsha", args);
  }

  async eval(_script: string, _keys: readonly string[], args: readonly string[]) {
    this.asked.push({ how: "eval", args });
    this.knows = true;
    return this.#obey("eval", args);
  }

  subscribe(): () => void {
    throw new Error("no test subscribes");
  }

  #obey(how: "evalsha" | "eval", args: readonly string[]): Promise<unknown> {
    if (this.nowUs > Number(args.at(-1))) return Promise.resolve([`${this.nowUs}`, "late"]);
    return this.answer(how);
  }
}

const count = script("count a call", "return {'1'}");

describe("the runner of scripts", () => {
  let clock: VirtualClock;
  let redis: FakeRedis;
  let runner: ScriptRunner;
  beforeEach(() => {
    clock = new VirtualClock();
    redis = new FakeRedis(clock);
    runner = new ScriptRunner("quota", redis, { timeoutMs: 100, clock });
  });
  const run = () => runner.run(count, ["key"], ["secret"]);
  const how = () => redis.asked.map((question) => question.how);

  it("runs a script by its digest, and returns what it returns", async () => {
    expect(await run()).toEqual(["done"]);
    expect(how()).toEqual(["evalsha"]);
    expect(redis.asked[0]?.args[0]).toBe("secret");
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("sends the script where the server does not know it", async () => {
    redis.knows = false;
    expect(await run()).toEqual(["done"]);
    expect(await run()).toEqual(["done"]);
    expect(how()).toEqual(["evalsha", "eval", "evalsha"]);
  });

  it("takes answers that the client has decoded as bytes", async () => {
    redis.answer = async () => redis.ran("é").map((text) => Buffer.from(text));
    expect(await run()).toEqual(["é"]);
  });

  it.each([
    [undefined, "Redis answered with no list"],
    [["1", "ran", 3], "Redis answered with something else than texts"],
  ])("refuses the answer %j", async (answer, text) => {
    redis.answer = async () => answer;
    await expect(run()).rejects.toThrow(new RedisError("count a call", text));
  });

  it("fails a question that is not answered in time, and drops the answer that comes later", async () => {
    let answer = (_given: unknown): void => {};
    redis.answer = () => new Promise((resolve) => (answer = resolve));
    const asked = expect(run()).rejects.toThrow("count a call: Redis did not answer in 100 ms");
    await clock.pass(99);
    expect(clock.pending.refs).toBe(1);
    await clock.pass(1);
    await asked;
    answer(redis.ran("too late"));
    redis.answer = async () => redis.ran("in time");
    expect(await run()).toEqual(["in time"]);
  });

  it("drops an error that comes later", async () => {
    let fail = (_given: unknown): void => {};
    redis.answer = () => new Promise((_resolve, reject) => (fail = reject));
    const asked = expect(run()).rejects.toThrow("did not answer");
    await clock.pass(100);
    await asked;
    fail(new Error("Connection is closed."));
    // An unhandled rejection would fail the run.
    await clock.pass(1_000);
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("hands over the answer that may still come, and only of a question that was given up", async () => {
    const late: Promise<readonly string[]>[] = [];
    const watched = () => runner.run(count, ["key"], [], (answer) => late.push(answer));
    await watched();
    expect(late).toHaveLength(0);
    let answer = (_given: unknown): void => {};
    redis.answer = () => new Promise((resolve) => (answer = resolve));
    const asked = expect(watched()).rejects.toThrow("did not answer");
    await clock.pass(100);
    await asked;
    answer(redis.ran("late"));
    expect(await late[0]).toEqual(["late"]);
  });

  it("does not send the script when the time has passed meanwhile", async () => {
    redis.knows = false;
    const slow: RedisClient = {
      evalsha: async (...args) => {
        await clock.pass(150);
        return redis.evalsha(...args);
      },
      eval: (...args) => redis.eval(...args),
      subscribe: () => () => {},
    };
    const patient = new ScriptRunner("quota", slow, { timeoutMs: 100, clock });
    await expect(patient.run(count, ["key"], [])).rejects.toThrow("did not answer in 100 ms");
    await clock.pass(1_000);
    expect(how()).toEqual(["evalsha"]);
  });

  it("says what was asked and what Redis answered, and not the data", async () => {
    const leaky = Object.assign(
      new Error("OOM command not allowed when used memory > 'maxmemory'."),
      {
        command: { name: "evalsha", args: ["secret"] },
      },
    );
    redis.answer = async () => Promise.reject(leaky);
    const error = await run().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(RedisError);
    expect(error).toMatchObject({
      message: "count a call: OOM command not allowed when used memory > 'maxmemory'.",
      question: "count a call",
    });
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain("secret");
  });

  it("cuts off which line of which script failed", async () => {
    const where = `script: ${"a0".repeat(20)}, on @user_script:20.`;
    redis.answer = async () => Promise.reject(new Error(`OOM command not allowed. ${where}`));
    await expect(run()).rejects.toThrow(/^count a call: OOM command not allowed\.$/);
  });

  it("cuts off the arguments that Redis repeats of a command that it does not know", async () => {
    const text = "ERR unknown command 'evalsha', with args beginning with: 'f00' '1' 'secret'";
    redis.answer = async () => Promise.reject(new Error(text));
    await expect(run()).rejects.toThrow(/^count a call: ERR unknown command 'evalsha'$/);
  });

  it("survives a client that throws, and an error without a message", async () => {
    redis.answer = () => {
      throw new Error("");
    };
    await expect(run()).rejects.toThrow("the client failed without a message");
  });

  it("refuses questions while 1,000 are given up and not settled", async () => {
    const settle: (() => void)[] = [];
    redis.answer = () => new Promise((resolve) => settle.push(() => resolve(redis.ran("late"))));
    const given = Array.from({ length: 1_000 }, () => run().catch(() => "given up"));
    await clock.pass(100);
    expect(new Set(await Promise.all(given))).toEqual(new Set(["given up"]));
    await expect(run()).rejects.toThrow("Redis owes the answers to 1000 earlier questions");
    expect(redis.asked).toHaveLength(1_000);

    settle[0]?.();
    await clock.pass(0);
    redis.answer = async () => redis.ran("again");
    expect(await run()).toEqual(["again"]);
  });

  describe("names the latest time to Redis", () => {
    it("by the wall clock, before the first answer", async () => {
      await run();
      expect(redis.leftMs).toBe(100);
    });

    it.each([5_000, -5_000])("by the clock of Redis, which is %i ms ahead", async (aheadMs) => {
      redis.aheadMs = aheadMs;
      expect(await run()).toEqual(["done"]);
      const first = redis.asked.length;
      expect(await run()).toEqual(["done"]);
      expect(redis.leftMs).toBe(100);
      expect(redis.asked).toHaveLength(first + 1);
    });

    it("and asks again when Redis wrongly takes it for late", async () => {
      redis.aheadMs = 5_000;
      expect(await run()).toEqual(["done"]);
      expect(redis.asked).toHaveLength(2);
    });

    it("and fails when Redis takes it for late twice", async () => {
      redis.evalsha = async (_sha1, _keys, args) => {
        redis.asked.push({ how: "evalsha", args });
        // Another server each time, whose clock is ahead of that of the one before.
        redis.aheadMs += 5_000;
        return [`${redis.nowUs}`, "late"];
      };
      await expect(run()).rejects.toThrow("count a call: Redis got to it too late, after 0 ms");
      expect(redis.asked).toHaveLength(2);
    });

    it("unless a script is right whenever it is run", async () => {
      const patient = script("patience", "return {'1'}", { evenLate: true });
      redis.answer = () => clock.pass(5_000).then(() => redis.ran("late"));
      const late: Promise<readonly string[]>[] = [];
      const asked = runner.run(patient, ["key"], [], (answer) => late.push(answer));
      redis.knows = false;
      await expect(asked).rejects.toThrow("did not answer in 100 ms");
      expect(await late[0]).toEqual(["late"]);
      expect(redis.leftMs).toBeGreaterThan(1_000_000_000);
    });

    it("and learns nothing from an answer that came too late", async () => {
      await run();
      let answer = (_given: unknown): void => {};
      redis.answer = () => new Promise((resolve) => (answer = resolve));
      const late = run().catch(() => {});
      await clock.pass(10_000);
      await late;
      answer(redis.ran("late"));
      await clock.pass(0);
      redis.answer = async () => redis.ran("done");
      await run();
      expect(redis.leftMs).toBe(100);
    });
  });
});

describe("the key of an entry", () => {
  const runner = new ScriptRunner("store", new FakeRedis(new VirtualClock()), { prefix: "shop:" });

  it("has what decides on the slot of a cluster in braces", () => {
    expect(runner.key("idem", "order-1")).toBe("shop:{idem:order-1}");
  });

  it.each(["", "}", "{}", "a}b{c"])("keeps one part in braces for the id %j", (id) => {
    const slotOf = (key: string) => /\{(.*?)\}/.exec(key)?.[1];
    const key = runner.key("idem", id);
    expect(slotOf(`${key}:a`)).toBe(slotOf(`${key}:b`));
    expect(slotOf(key)).toMatch(/^idem:/);
  });
});

describe("the options of what stands in Redis", () => {
  const build = (options: object) => () =>
    new ScriptRunner("store", new FakeRedis(new VirtualClock()), options);

  it.each([
    [{ prefix: "a{b" }, "store.prefix must be a text without { and }"],
    [{ prefix: 7 }, "store.prefix must be a text without { and }"],
    [{ timeoutMs: 0 }, "store.timeoutMs must be milliseconds from 1"],
    [{ timeoutMs: 60_001 }, "store.timeoutMs must be milliseconds from 1 to 60000, got 60001"],
    [{ timeoutMs: Number.NaN }, "store.timeoutMs must be milliseconds from 1"],
  ])("refuse %j", (options, text) => {
    expect(build(options)).toThrow(text);
  });
});
