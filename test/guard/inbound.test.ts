import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { currentInbound, detached } from "../../src/grpc/context/inbound-call.js";
import { priorityKey } from "../../src/grpc/metadata.js";
import { degradationOf } from "../../src/grpc/status/degraded.js";
import { rejectionOf } from "../../src/grpc/status/rejection.js";
import type { Guard } from "../../src/guard/guard.js";
import type { GuardOptions } from "../../src/guard/options.js";
import { echo, kinds, path, type SceneOptions, scene, withResolvers } from "../scene.js";

const never = () => new Promise<never>(() => {});

/** A server whose unary handler does what it is told with a guard, and passes the error on. */
async function serving<F = never>(
  options: GuardOptions<F>,
  handle: (guard: Guard<F>, call: number) => Promise<unknown>,
  more: SceneOptions = {},
) {
  let calls = 0;
  let guard: Guard<F> | undefined;
  const ends: unknown[] = [];
  const made = await scene({
    client: { retry: false, breaker: false },
    server: {},
    ...more,
    handlers: {
      ...echo,
      unary(call, callback) {
        if (guard === undefined) throw new Error("no guard");
        calls += 1;
        handle(guard, calls).then(
          (value) => {
            ends.push(value);
            callback(null, call.request);
          },
          (error: Error) => {
            ends.push(error);
            callback(error);
          },
        );
      },
    },
  });
  guard = made.weir.guard("db", options);
  return { ...made, guard, ends };
}

describe("a guard in a handler", () => {
  it("tells the caller when its fallback has answered", async () => {
    const fails = () => Promise.reject(new Error("down"));
    const { call } = await serving({ fallback: { value: 0 } }, (guard) => guard.run(fails));
    const { code, trailers } = await call("unary");
    expect(code).toBe(Status.OK);
    expect(degradationOf(trailers)).toMatchObject([{ name: "db" }]);
  });

  it.each([
    [
      "BULKHEAD_FULL",
      Status.RESOURCE_EXHAUSTED,
      "Bulkhead full: db: running 1 of 1, queued 0 of 0",
    ],
    ["BREAKER_OPEN", Status.UNAVAILABLE, "Breaker open: db: 1 failure"],
    ["WORK_TIMEOUT", Status.DEADLINE_EXCEEDED, "db: no result within 50 ms"],
  ] as const)("gives an error that reaches the caller as %s", async (reason, code, details) => {
    const { call, guard } = await serving(
      {
        timeouts: { totalMs: 50 },
        bulkhead: { maxConcurrent: 1, maxQueued: 0 },
        breaker: { consecutiveFailures: 1 },
      },
      (db) => db.run(never),
    );
    const open = reason === "BREAKER_OPEN";
    if (open) await guard.run(() => Promise.reject(new Error("down"))).catch(() => {});
    if (reason === "BULKHEAD_FULL") guard.run(never).catch(() => {});
    const ended = await call("unary");
    expect(ended.code).toBe(code);
    expect(ended.details).toContain(details);
    expect(ended.details.split(`[${reason}]`)).toHaveLength(2);
    expect(rejectionOf(ended.error)).toMatchObject({
      reason,
      local: false,
      hops: 1,
      metadata: { guard: "db" },
    });
  });

  it("passes the work's own error through, which is no rejection", async () => {
    const failed = { code: Status.NOT_FOUND, details: "no such order" };
    const { call } = await serving({ breaker: {} }, (db) =>
      db.run(() => Promise.reject(Object.assign(new Error("x"), failed))),
    );
    const ended = await call("unary");
    expect(ended).toMatchObject(failed);
    expect(rejectionOf(ended.error)).toBeUndefined();
  });

  it("ends with the inbound deadline, which is no failure while nobody knows how long work takes", async () => {
    let signal: AbortSignal | undefined;
    const { call, clock, ends, link, guard, decisions } = await serving(
      { timeouts: { totalMs: 1_000 }, breaker: { consecutiveFailures: 1 } },
      (db) =>
        db.run((given) => {
          signal = given;
          return never();
        }),
    );
    const startedMs = clock.now();
    const ended = await call("unary", { deadline: clock.wallNow() + 200 });
    expect(ended.code).toBe(Status.DEADLINE_EXCEEDED);
    expect(clock.now() - startedMs).toBeLessThanOrEqual(200);
    await link.pass(100);
    expect(ends).toMatchObject([{ reason: "DEADLINE_EXCEEDED", code: Status.DEADLINE_EXCEEDED }]);
    expect(signal?.aborted).toBe(true);
    expect(guard.snapshot()).toMatchObject({ rejected: 1, abandoned: 1 });
    expect(await guard.run(async () => "served")).toBe("served");
    expect(decisions.filter(({ side }) => side === "guard")[0]).toMatchObject({
      policy: "deadline",
      verdict: "expire",
      method: "db",
    });
    await link.pass(2_000);
    expect(clock.pending.refs).toBe(0);
  });

  it("starts nothing when the deadline has passed, or the caller has left", async () => {
    let ran = 0;
    const { promise, resolve } = withResolvers<void>();
    const { start, clock, link, ends } = await serving({}, async (db) => {
      await promise;
      return db.run(() => {
        ran += 1;
      });
    });
    const late = start("unary", { deadline: clock.wallNow() + 50 });
    const left = start("unary");
    await link.pass(20);
    left.cancel();
    await link.until(Promise.all([late.ended, left.ended]));
    await link.pass(100);
    resolve();
    await link.pass(1);
    expect(ends.map((end) => (end as { reason: string }).reason).toSorted()).toEqual([
      "DEADLINE_EXCEEDED",
      "PARENT_CANCELLED",
    ]);
    expect(ran).toBe(0);
  });

  it("ends when the caller cancels, says nothing to the breaker, and asks no fallback", async () => {
    let asked = 0;
    const signals: AbortSignal[] = [];
    const options = {
      breaker: { consecutiveFailures: 1 },
      fallback: {
        answer() {
          asked += 1;
        },
      },
    };
    const { start, link, ends, clock, guard } = await serving(options, (db) =>
      db.run((signal) => {
        signals.push(signal);
        return never();
      }),
    );
    const running = start("unary");
    await link.pass(20);
    running.cancel();
    await link.until(running.ended);
    await link.pass(20);
    expect(ends).toMatchObject([{ reason: "PARENT_CANCELLED", code: Status.CANCELLED }]);
    expect(signals[0]?.aborted).toBe(true);
    expect(guard.snapshot()).toMatchObject({ rejected: 1, abandoned: 1 });
    expect(asked).toBe(0);
    expect(await guard.run(() => "still closed")).toBe("still closed");
    expect(clock.pending.refs).toBe(0);
  });

  it("hands on the signal of the inbound call itself where nothing else ends the work", async () => {
    const signals = new Set<AbortSignal>();
    const { call } = await serving({ bulkhead: {} }, async (db) => {
      await db.run((signal) => signals.add(signal));
      await db.run((signal) => signals.add(signal));
      expect(signals).toEqual(new Set([currentInbound()?.signal]));
    });
    expect((await call("unary")).code).toBe(Status.OK);
    expect(signals.size).toBe(1);
  });

  it("follows its call no longer when it has ended", async () => {
    let following = 0;
    const { call } = await serving({}, async (db) => {
      const inbound = currentInbound();
      if (inbound === undefined) throw new Error("no inbound call");
      const onCancelled = inbound.onCancelled.bind(inbound);
      inbound.onCancelled = (task) => {
        following += 1;
        const unfollow = onCancelled(task);
        return () => {
          following -= 1;
          unfollow();
        };
      };
      for (let n = 0; n < 3; n++) await db.run(() => n);
      await db.run(() => Promise.reject(new Error("down"))).catch(() => {});
    });
    expect((await call("unary")).code).toBe(Status.OK);
    expect(following).toBe(0);
  });

  it("queues by the priority of the inbound call, which a run may set otherwise", async () => {
    const order: string[] = [];
    const { promise, resolve } = withResolvers<void>();
    const { start, link } = await serving(
      { bulkhead: { maxConcurrent: 1, maxQueued: 10, maxWaitMs: 1_000 } },
      (db, number) =>
        db.run(
          async () => {
            if (number === 1) await promise;
            order.push(`call ${number}`);
          },
          number === 4 ? { priority: "critical" } : {},
        ),
    );
    const calls = ["normal", "low", "high", "low"].map((priority) => {
      const metadata = new Metadata();
      metadata.set(priorityKey, priority);
      return start("unary", {}, metadata);
    });
    await link.pass(50);
    resolve();
    await link.until(Promise.all(calls.map(({ ended }) => ended)));
    expect(order).toEqual(["call 1", "call 4", "call 3", "call 2"]);
  });

  it("tells the inbound call of its decisions, so many and no more", async () => {
    const noted: (readonly unknown[] | undefined)[] = [];
    const { call, decisions } = await serving(
      { bulkhead: { maxConcurrent: 1, maxQueued: 0 } },
      async (db) => {
        db.run(never).catch(() => {});
        for (let n = 0; n < 300; n++) await db.run(never).catch(() => {});
        noted.push(currentInbound()?.decisions);
      },
    );
    await call("unary");
    expect(noted[0]).toHaveLength(128);
    expect(noted[0]?.[0]).toMatchObject({
      policy: "bulkhead",
      reason: "BULKHEAD_FULL",
      detail: "db: running 1 of 1, queued 0 of 0",
    });
    expect(decisions.filter(({ side }) => side === "guard")).toHaveLength(300);
  });

  it("leaves work alone that outlives its call: detached, or begun after the answer", async () => {
    const late: Promise<unknown>[] = [];
    const { start, link, clock } = await serving({ timeouts: { totalMs: 100 } }, async (db) => {
      late.push(
        detached(() =>
          db.run(() => new Promise((resolve) => clock.schedule(80, () => resolve("detached")))),
        ),
      );
    });
    const running = start("unary", { deadline: clock.wallNow() + 50 });
    expect((await link.until(running.ended)).code).toBe(Status.OK);
    expect(await link.until(Promise.all(late))).toEqual(["detached"]);
  });

  it("bounds work that a handler begins after its answer by the guard alone", async () => {
    const late: Promise<unknown>[] = [];
    const { weir, clock, link, start } = await scene({
      server: {},
      handlers: {
        ...echo,
        unary(call, callback) {
          const guard = weir.guard("late");
          callback(null, call.request);
          const begin = () => {
            const work = () =>
              new Promise((resolve) => clock.schedule(100, () => resolve("after the deadline")));
            late.push(guard.run(work));
          };
          clock.schedule(20, begin);
        },
      },
    });
    weir.guard("late", { timeouts: { totalMs: 200 } });
    const running = start("unary", { deadline: clock.wallNow() + 50 });
    expect((await link.until(running.ended)).code).toBe(Status.OK);
    await link.pass(30);
    expect(await link.until(Promise.all(late))).toEqual(["after the deadline"]);
  });

  it("does not retry for a call that is being retried above", async () => {
    let runs = 0;
    const { call, decisions } = await serving({ retry: { backoff: { baseMs: 1 } } }, (db) =>
      db.run(() => {
        runs += 1;
        return Promise.reject(new Error("down"));
      }),
    );
    const metadata = new Metadata();
    metadata.set("x-weir-retry-depth", "1");
    await call("unary", {}, metadata);
    expect(runs).toBe(1);
    expect(decisions.at(-1)).toMatchObject({ verdict: "stop", reason: "RETRY_DEPTH" });
  });
});

describe("the weir's hand on guards", () => {
  it("switches modes, forces breakers by name, and shows the numbers", async () => {
    const { weir, decisions } = await scene();
    weir.policy("bulkhead").mode = "observe";
    const guard = weir.guard("db", {
      bulkhead: { maxConcurrent: 1, maxQueued: 0 },
      breaker: {},
      retry: {},
      fallback: { value: 0, mode: "off" },
    });
    guard.run(never).catch(() => {});
    expect(await guard.run(() => 1)).toBe(1);
    expect(decisions).toMatchObject([{ policy: "bulkhead", enforced: false, side: "guard" }]);
    weir.policy("breaker").forceOpen("db");
    expect(await guard.run(() => 1).catch((error: unknown) => error)).toMatchObject({
      reason: "BREAKER_OPEN",
    });
    weir.policy("breaker").release("db");
    const snapshot = weir.snapshot();
    expect(snapshot.guards).toMatchObject([{ name: "db", succeeded: 1, rejected: 1 }]);
    expect(Object.keys(snapshot.policies)).toEqual(
      expect.arrayContaining(["bulkhead", "breaker", "retry", "fallback"]),
    );
    expect(weir.guard("db")).toBe(guard);
    weir.close();
    expect(await guard.run(() => 1).catch((error: unknown) => error)).toMatchObject({
      reason: "CLOSED",
    });
  });
});

describe.each(kinds)("the deadline of a %s call", (method) => {
  it("bounds what its handler guards", async () => {
    const ends: unknown[] = [];
    let guard: Guard | undefined;
    const run = () => {
      guard?.run(never).catch((error: { reason: string }) => ends.push(error.reason));
    };
    const made = await scene({
      client: { retry: false, breaker: false },
      server: {},
      handlers: {
        unary: run,
        clientStream: run,
        serverStream: run,
        bidiStream: run,
      },
    });
    guard = made.weir.guard("db", { timeouts: { totalMs: 1_000 } });
    const deadline = made.clock.wallNow() + 100;
    expect((await made.call(method, { deadline })).code).toBe(Status.DEADLINE_EXCEEDED);
    await made.link.pass(100);
    expect(ends).toEqual(["DEADLINE_EXCEEDED"]);
    expect(path[method]).toContain("/");
    await made.link.pass(2_000);
    expect(made.clock.pending.refs).toBe(0);
  });
});
