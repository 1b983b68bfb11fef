import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import type { DecisionEvent, Verdict } from "../../src/core/decision.js";
import type { GuardOptions } from "../../src/guard/options.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { createWeir } from "../../src/weir.js";

const later = () => new Promise<void>((resolve) => setImmediate(resolve));

function scene(onDecision?: (decision: DecisionEvent) => unknown) {
  const clock = new VirtualClock();
  const told: string[] = [];
  const weir = createWeir({
    clock,
    random: () => 0.5,
    onError: (error, where) => {
      told.push(`${where}: ${error instanceof Error ? error.message : String(error)}`);
    },
    ...(onDecision === undefined ? {} : { onDecision }),
  });
  return { clock, weir, told };
}

const down = () => {
  throw new Error("down");
};
const hang = () => new Promise<never>(() => {});

/** Who is told of a decision ends the run that it is about. */
describe("a run that is ended by whoever is told of", () => {
  it.each<[string, Verdict, GuardOptions, () => unknown, number]>([
    ["a retry", "retry", { retry: { maxAttempts: 5, backoff: { baseMs: 10 } } }, down, 1],
    ["a retry that is only observed", "retry", { retry: { mode: "observe" } }, down, 1],
    ["the end of the retries", "stop", { retry: { maxAttempts: 1 } }, down, 1],
    [
      "an attempt that took too long",
      "expire",
      { timeouts: { attemptMs: 20 }, retry: { maxAttempts: 3, backoff: { baseMs: 10 } } },
      hang,
      1,
    ],
    ["a run that took too long", "expire", { timeouts: { totalMs: 20 } }, hang, 1],
    [
      "its turn in the queue",
      "queue",
      { bulkhead: { maxConcurrent: 1, maxWaitMs: 1_000 } },
      () => 1,
      0,
    ],
    [
      "a refusal for want of room",
      "reject",
      { bulkhead: { maxConcurrent: 1, maxQueued: 0 } },
      () => 1,
      0,
    ],
    [
      "a refusal that is only observed, of a bulkhead",
      "reject",
      { bulkhead: { maxConcurrent: 1, maxQueued: 0, mode: "observe" } },
      () => 1,
      0,
    ],
    [
      "a refusal that is only observed, of a breaker",
      "reject",
      { breaker: { consecutiveFailures: 1, mode: "observe" } },
      () => 1,
      0,
    ],
    ["a refusal of a breaker", "reject", { breaker: { consecutiveFailures: 1 } }, () => 1, 0],
  ])(
    "%s is over: it runs nothing more, and leaves nothing behind",
    async (_what, verdict, options, work, calls) => {
      const ended = new AbortController();
      let armed = false;
      const { clock, weir } = scene((decision) => {
        if (armed && decision.verdict === verdict) ended.abort("enough");
      });
      const guard = weir.guard("g", options);
      if (options.breaker !== undefined) await guard.run(down).catch(() => {});
      const occupant =
        options.bulkhead === undefined
          ? undefined
          : guard.run(() => new Promise<void>((resolve) => clock.schedule(50, resolve)));
      const before = guard.snapshot();
      armed = true;
      let ran = 0;
      const result = guard
        .run(
          () => {
            ran += 1;
            return work();
          },
          { signal: ended.signal },
        )
        .then(
          () => "resolved",
          (error: unknown) => error,
        );
      await clock.pass(5_000);
      await occupant;
      expect(await result).toBe("enough");
      expect(ran).toBe(calls);
      const after = guard.snapshot();
      expect(after.rejected - before.rejected).toBe(1);
      expect([after.failed - before.failed, after.abandoned]).toEqual([0, work === hang ? 1 : 0]);
      expect(weir.snapshot().waiting).toBe(0);
      armed = false;
      if (options.bulkhead !== undefined) {
        expect(weir.policy("bulkhead").snapshot()).toMatchObject([
          { bulkheads: { g: { running: 0, queued: 0 } } },
        ]);
        await expect(guard.run(() => "next")).resolves.toBe("next");
      }
    },
  );

  it("the change of a breaker's state counts once, and is no work that runs on", async () => {
    for (const hook of ["half-open", "closed"] as const) {
      const { clock, weir } = scene();
      const ended = new AbortController();
      const guard = weir.guard("g", {
        bulkhead: { maxConcurrent: 1, maxQueued: 0 },
        breaker: { consecutiveFailures: 1, openMs: 100, openJitter: 0, probes: 1, rampMs: false },
      });
      await guard.run(down).catch(() => {});
      await clock.pass(101);
      weir.policy("breaker").onStateChange(({ to }) => {
        if (to === hook) ended.abort(hook);
      });
      const before = guard.snapshot();
      await guard.run(async () => 5, { signal: ended.signal }).catch(() => {});
      await clock.pass(1_000);
      const { succeeded, rejected, abandoned } = guard.snapshot();
      expect([succeeded - before.succeeded + rejected - before.rejected, abandoned]).toEqual([
        1, 0,
      ]);
      await expect(guard.run(() => "next")).resolves.toBe("next");
    }
  });

  it.each(["off", "close"] as const)(
    "a run that has just got a place in the queue keeps it or gives it back: %s",
    async (does) => {
      const { clock, weir } = scene();
      const guard = weir.guard("g", {
        bulkhead: { maxConcurrent: 1, maxQueued: 1, maxWaitMs: 5_000 },
        breaker: { consecutiveFailures: 1, openMs: 100, openJitter: 0, probes: 1, rampMs: false },
      });
      await guard.run(down).catch(() => {});
      const breaker = weir.policy("breaker");
      const bulkhead = weir.policy("bulkhead");
      let release = (): void => {};
      breaker.mode = "off";
      const occupant = guard.run(() => new Promise<void>((resolve) => (release = resolve)));
      breaker.mode = "enforce";
      await clock.pass(101);
      breaker.onStateChange(() => {
        if (does === "off") bulkhead.mode = "off";
        else weir.close();
      });
      const ended = guard.run(() => "ran").catch(({ reason }) => reason);
      await clock.pass(1);
      release();
      await occupant;
      expect(await clock.until(ended)).toBe(does === "off" ? "ran" : "CLOSED");
      await clock.pass(0);
      expect(bulkhead.snapshot()).toMatchObject([{ bulkheads: { g: { running: 0, queued: 0 } } }]);
      expect(weir.snapshot().waiting).toBe(0);
    },
  );

  it("an error that it is to judge is over", async () => {
    for (const policy of ["retryError", "countError"] as const) {
      const { clock, weir } = scene();
      const ended = new AbortController();
      const judge = () => {
        ended.abort("enough");
        return true;
      };
      const guard = weir.guard("g", {
        ...(policy === "countError" ? { breaker: { countError: judge } } : {}),
        retry: {
          maxAttempts: 5,
          backoff: { baseMs: 10 },
          ...(policy === "retryError" ? { retryError: judge } : {}),
        },
      });
      let ran = 0;
      const result = guard.run(
        () => {
          ran += 1;
          return down();
        },
        { signal: ended.signal },
      );
      const error = result.catch((thrown: unknown) => thrown);
      await clock.pass(1_000);
      expect([await error, ran]).toEqual(["enough", 1]);
    }
  });
});

/** The key that makes an object a promise for `await`. */
const then = ["th", "en"].join("");

const revoked = () => {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
};
const throwing = (trap: "get" | "has" | "getPrototypeOf") =>
  new Proxy(
    {},
    {
      [trap]: () => {
        throw new TypeError("do not touch");
      },
    },
  );

describe("work that returns something odd gives its place back, with", () => {
  it.each<[string, () => unknown]>([
    ["a revoked proxy", revoked],
    ["a proxy that lets nobody read", () => throwing("get")],
    ["a proxy that lets nobody ask what it has", () => throwing("has")],
    ["a proxy without a prototype to ask", () => throwing("getPrototypeOf")],
    [
      "an object whose then throws when it is read",
      () =>
        Object.defineProperty({}, then, {
          get: () => {
            throw new Error("no");
          },
        }),
    ],
    ["a promise of nobody", () => Object.create(Promise.prototype)],
    ["a thenable that returns nothing", () => ({ [then]: (on: (value: number) => void) => on(5) })],
    [
      "a promise whose species throws",
      () =>
        Object.defineProperty(Promise.resolve(5), "constructor", {
          get: () => {
            throw new Error("no");
          },
        }),
    ],
  ])("%s", async (_what, make) => {
    for (const totalMs of [undefined, 200]) {
      const { weir, clock } = scene();
      const guard = weir.guard("g", {
        ...(totalMs === undefined ? {} : { timeouts: { totalMs } }),
        bulkhead: { maxConcurrent: 1, maxQueued: 0 },
        breaker: { consecutiveFailures: 100 },
      });
      const result = guard.run(make).then(
        () => "resolved",
        () => "rejected",
      );
      await clock.pass(1_000);
      expect(["resolved", "rejected"]).toContain(await result);
      const { succeeded, failed, rejected } = guard.snapshot();
      expect([succeeded + failed, rejected]).toEqual([1, 0]);
      await expect(guard.run(() => "next")).resolves.toBe("next");
    }
  });
});

describe("an answer of a promise where a guard wants a word", () => {
  it.each(["retryError", "countError", "when"] as const)(
    "is reported and is no answer: %s",
    async (hook) => {
      const { clock, weir, told } = scene();
      const maybe = async () => {
        throw new Error("later");
      };
      const judge = maybe as unknown as () => boolean;
      let ran = 0;
      const guard = weir.guard("g", {
        breaker: {
          consecutiveFailures: 1,
          ...(hook === "countError" ? { countError: judge } : {}),
        },
        ...(hook === "retryError" ? { retry: { retryError: judge } } : {}),
        ...(hook === "when" ? { fallback: { when: judge, value: 1 } } : {}),
      });
      const result = guard.run(() => {
        ran += 1;
        return down();
      });
      await Promise.all([expect(result).rejects.toThrow("down"), clock.pass(1_000)]);
      await later();
      expect(ran).toBe(1);
      expect(told).toHaveLength(1);
      expect(told[0]).toContain("answered with a promise");
    },
  );

  it("is reported where it rejects, and the process lives: decisions, states and errors", async () => {
    const bad: () => unknown = async () => {
      throw new Error("later");
    };
    const { weir, told } = scene(bad);
    weir.policy("breaker").onStateChange(bad);
    const guard = weir.guard("g", { breaker: { consecutiveFailures: 1 } });
    await guard.run(down).catch(() => {});
    await guard.run(down).catch(() => {});
    await later();
    expect(told).toEqual(["breaker.onStateChange: later", "onDecision: later"]);
    const silent = createWeir({ onError: bad, onDecision: down });
    const other = silent.guard("g", { bulkhead: { maxConcurrent: 1, maxQueued: 0 } });
    void other.run(hang);
    await other.run(down).catch(() => {});
    await later();
  });
});

describe("an abort of another realm", () => {
  it("says nothing of the dependency, as one of this realm", async () => {
    const { weir } = scene();
    const guard = weir.guard("g", { breaker: { consecutiveFailures: 1 }, retry: {} });
    const abort: unknown = runInNewContext(
      "Object.assign(new Error('gone'), { name: 'AbortError' })",
    );
    const work = async () => {
      throw abort;
    };
    await guard.run(work).catch(() => {});
    await expect(guard.run(() => "next")).resolves.toBe("next");
  });
});

describe("a run whose signal is aborted while its fallback is at work", () => {
  it("rejects with the signal's reason", async () => {
    const { clock, weir } = scene();
    const guard = weir.guard("g", { fallback: { answer: hang } });
    const ended = new AbortController();
    const error = guard.run(down, { signal: ended.signal }).catch((thrown: unknown) => thrown);
    await clock.pass(20);
    ended.abort("gone");
    expect(await error).toBe("gone");
  });

  it("rejects so when the word that it is for this error was the last", async () => {
    const { weir } = scene();
    const ended = new AbortController();
    const when = () => {
      ended.abort("gone");
      return true;
    };
    const guard = weir.guard("g", { fallback: { when, value: 5 } });
    await expect(guard.run(down, { signal: ended.signal })).rejects.toBe("gone");
  });

  it("rejects with the work's error when the fallback takes too long, as ever", async () => {
    const { clock, weir } = scene();
    const guard = weir.guard("g", { fallback: { answer: hang, timeoutMs: 50 } });
    const result = guard.run(down);
    await Promise.all([expect(result).rejects.toThrow("down"), clock.pass(100)]);
  });
});

describe("the options of a run", () => {
  it("are those of its beginning", async () => {
    const { weir } = scene();
    const guard = weir.guard("g", { breaker: { consecutiveFailures: 1 } });
    const options: { key: string } = { key: "a" };
    const result = guard.run(async () => down(), options);
    options.key = "b";
    await result.catch(() => {});
    await expect(guard.run(() => 1, { key: "a" })).rejects.toMatchObject({
      reason: "BREAKER_OPEN",
    });
    await expect(guard.run(() => 1, { key: "b" })).resolves.toBe(1);
  });
});

describe("the key of a run", () => {
  it("costs no more memory than its beginning, however long it is, and is told apart by all of it", async () => {
    const { weir } = scene();
    const guard = weir.guard("g", { breaker: { consecutiveFailures: 1 } });
    const long = "x".repeat(100_000);
    await guard.run(async () => down(), { key: `${long}a` }).catch(() => {});
    await expect(guard.run(() => 1, { key: `${long}b` })).resolves.toBe(1);
    await expect(guard.run(() => 1, { key: `${long}a` })).rejects.toMatchObject({
      reason: "BREAKER_OPEN",
    });
    const [snapshot] = weir.policy("breaker").snapshot();
    for (const name of Object.keys(snapshot?.breakers ?? {})) expect(name.length).toBeLessThan(400);
  });
});
