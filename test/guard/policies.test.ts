import { AsyncLocalStorage } from "node:async_hooks";
import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { GuardRejectedError } from "../../src/grpc/status/guard-rejected-error.js";
import { deferred, ending, guarded, rejected } from "./scene.js";

const never = () => new Promise<never>(() => {});
const broken = () => Promise.reject(new Error("down"));

/** Without a time-out, a run that nothing else can end takes a shorter way. Both ways must look alike. */
const ways = [
  ["alone", {}],
  ["with a time-out", { timeouts: { totalMs: 100_000 } }],
] as const;

describe.each(ways)("the bulkhead of a guard, %s", (_way, time) => {
  it("serves the queue by priority, each in the async context of its own run", async () => {
    const { clock, guard, decisions, numbers, expectQuiet } = guarded({
      ...time,
      bulkhead: { maxConcurrent: 1, maxQueued: 10, maxWaitMs: 1_000 },
    });
    const storage = new AsyncLocalStorage<string>();
    const first = deferred();
    const order: (string | undefined)[] = [];
    const runs = [guard.run(() => first.promise)];
    for (const priority of ["low", "normal", "critical"] as const) {
      const work = async () => {
        order.push(storage.getStore());
        return priority;
      };
      runs.push(storage.run(priority, () => guard.run(work, { priority })));
    }
    expect(numbers("bulkhead")).toMatchObject({ running: 1, queued: 3 });
    await clock.pass(5);
    first.resolve("first");
    expect(await clock.until(Promise.all(runs))).toEqual(["first", "low", "normal", "critical"]);
    expect(order).toEqual(["critical", "normal", "low"]);
    expect(numbers("bulkhead")).toMatchObject({ running: 0, queued: 0, admitted: 4 });
    expect(decisions).toMatchObject(
      [1, 2, 3].map(() => ({ policy: "bulkhead", verdict: "queue", waitMs: 5, side: "guard" })),
    );
    await expectQuiet();
  });

  it("keeps the place of work that hangs, so that it tells how much is really under way", async () => {
    const { clock, guard, numbers } = guarded({
      timeouts: { totalMs: 100 },
      bulkhead: { maxConcurrent: 1, maxQueued: 0 },
    });
    const hung = deferred();
    expect(await clock.until(rejected(guard.run(() => hung.promise)))).toMatchObject({
      reason: "WORK_TIMEOUT",
    });
    expect(numbers("bulkhead")).toMatchObject({ running: 1 });
    expect(await rejected(guard.run(never))).toMatchObject({ reason: "BULKHEAD_FULL" });
    hung.resolve("at last");
    await clock.pass(0);
    expect(numbers("bulkhead")).toMatchObject({ running: 0 });
    expect(await guard.run(() => "next")).toBe("next");
  });

  it("ends a wait after maxWaitMs, and when the time of the run is up", async () => {
    const { clock, guard, expectQuiet } = guarded({
      timeouts: { totalMs: 100 },
      bulkhead: { maxConcurrent: 1, maxWaitMs: 60 },
    });
    const first = rejected(guard.run(never));
    expect(await clock.until(rejected(guard.run(never)))).toMatchObject({
      reason: "QUEUE_TIMEOUT",
      code: Status.RESOURCE_EXHAUSTED,
    });
    const long = guarded({
      timeouts: { totalMs: 100 },
      bulkhead: { maxConcurrent: 1, maxWaitMs: 500 },
    });
    void rejected(long.guard.run(never));
    await long.clock.pass(20);
    const startedMs = long.clock.now();
    expect(await long.clock.until(rejected(long.guard.run(never)))).toMatchObject({
      reason: "WORK_TIMEOUT",
      details: "db: no result within 100 ms, not begun [WORK_TIMEOUT]",
    });
    expect(long.clock.now() - startedMs).toBe(100);
    await long.expectQuiet();
    await clock.until(first);
    await expectQuiet();
  });

  it("takes as many places as a run weighs", async () => {
    const { guard, numbers } = guarded({
      ...time,
      bulkhead: { maxConcurrent: 3, maxQueued: 0 },
    });
    void guard.run(never, { weight: 2 });
    expect(numbers("bulkhead")).toMatchObject({ running: 2 });
    expect(await rejected(guard.run(never, { weight: 2 }))).toMatchObject({
      reason: "BULKHEAD_FULL",
    });
    expect(await guard.run(() => "light")).toBe("light");
  });

  it("has places of its own for each key", async () => {
    const { guard, policies } = guarded({ ...time, bulkhead: { maxConcurrent: 1, maxQueued: 0 } });
    void guard.run(never, { key: "eu" });
    expect(await rejected(guard.run(never, { key: "eu" }))).toMatchObject({
      reason: "BULKHEAD_FULL",
    });
    expect(await guard.run(() => "us", { key: "us" })).toBe("us");
    expect(policies.get("bulkhead")?.snapshot()).toMatchObject({
      bulkheads: { "db eu": { running: 1, refused: 1 }, "db us": { admitted: 1 } },
    });
  });
});

describe("a place that a guard hands over", () => {
  it("is given back when its run has just ended", async () => {
    const { clock, guard, numbers } = guarded({
      timeouts: { totalMs: 100_000 },
      bulkhead: { maxConcurrent: 1, maxWaitMs: 1_000 },
    });
    const first = deferred();
    const abort = new AbortController();
    // This goes on in the same breath in which the place is handed over.
    const running = guard.run(() => first.promise).then(() => abort.abort("left"));
    const queued = rejected(guard.run(never, { signal: abort.signal }));
    first.resolve("done");
    expect(await clock.until(queued)).toBe("left");
    await running;
    expect(numbers("bulkhead")).toMatchObject({ running: 0, queued: 0, admitted: 2 });
  });
});

describe.each(ways)("the breaker of a guard, %s", (_way, time) => {
  const options = {
    ...time,
    breaker: { consecutiveFailures: 3, openMs: 1_000, openJitter: 0, probes: 1, rampMs: false },
  } as const;

  it("opens after errors, refuses without running the work, and closes by a probe", async () => {
    const { clock, guard, numbers, decisions } = guarded(options);
    for (let n = 0; n < 3; n++) await rejected(guard.run(broken));
    let ran = false;
    const error = await rejected(
      guard.run(() => {
        ran = true;
      }),
    );
    expect(ran).toBe(false);
    expect(error).toMatchObject({
      reason: "BREAKER_OPEN",
      code: Status.UNAVAILABLE,
      retryAfterMs: 1_000,
    });
    expect(decisions).toMatchObject([{ policy: "breaker", verdict: "reject", enforced: true }]);
    await clock.pass(1_000);
    expect(await guard.run(() => "well")).toBe("well");
    expect(numbers("breaker")).toMatchObject({ state: "closed" });
  });

  it("counts a time-out at once, while the work still hangs", async () => {
    const { clock, guard, numbers } = guarded({ ...options, timeouts: { totalMs: 100 } });
    for (let n = 0; n < 3; n++) await clock.until(rejected(guard.run(never)));
    expect(numbers("breaker")).toMatchObject({ state: "open" });
    expect(guard.snapshot().abandoned).toBe(3);
  });

  it("takes runs that fail together for one event", async () => {
    const { guard, numbers } = guarded(options);
    let fail: (error: Error) => void = () => {};
    const pool = new Promise<never>((_resolve, reject) => {
      fail = reject;
    });
    const runs = Array.from({ length: 8 }, () => rejected(guard.run(() => pool)));
    fail(new Error("the connection of the pool is gone"));
    await Promise.all(runs);
    expect(numbers("breaker")).toMatchObject({ state: "closed", consecutiveFailures: 1 });
  });

  it("does not count what calls itself off, nor what a guard inside refused", async () => {
    const inner = guarded({ bulkhead: { maxConcurrent: 1, maxQueued: 0 } });
    void inner.guard.run(never);
    const { guard, numbers } = guarded(options);
    const abort = Object.assign(new Error("left"), { name: "AbortError" });
    for (let n = 0; n < 5; n++) {
      await rejected(guard.run(() => Promise.reject(abort)));
      await rejected(guard.run(() => inner.guard.run(never)));
    }
    expect(numbers("breaker")).toMatchObject({ state: "closed", calls: 0 });
  });

  it("counts the time-out of a guard inside", async () => {
    const inner = guarded({ timeouts: { totalMs: 10 } });
    const { guard, numbers } = guarded(options);
    const run = rejected(guard.run(() => inner.guard.run(never)));
    await inner.clock.until(run);
    expect(numbers("breaker")).toMatchObject({ consecutiveFailures: 1 });
  });

  it("counts the errors that countError names, and others as a success", async () => {
    const conflict = new Error("duplicate key");
    const { guard, numbers, errors } = guarded({
      ...time,
      breaker: {
        consecutiveFailures: 2,
        countError(error) {
          if (error === undefined) throw new Error("a broken hook");
          return error !== conflict;
        },
      },
    });
    await rejected(guard.run(broken));
    await rejected(guard.run(() => Promise.reject(conflict)));
    expect(numbers("breaker")).toMatchObject({ consecutiveFailures: 0, calls: 2, failures: 1 });
    await rejected(guard.run(() => Promise.reject(undefined)));
    expect(errors).toHaveLength(1);
    expect(numbers("breaker")).toMatchObject({ consecutiveFailures: 1 });
  });

  it("gives the place back of a run that its ramp holds back", async () => {
    const { clock, guard, numbers } = guarded({
      ...time,
      breaker: { consecutiveFailures: 1, openMs: 10, openJitter: 0, probes: 1, rampMs: 10_000 },
      bulkhead: { maxConcurrent: 100 },
    });
    await rejected(guard.run(broken));
    await clock.pass(10);
    await guard.run(() => "a probe");
    const ends: unknown[] = [];
    for (let n = 0; n < 40; n++) void rejected(guard.run(never)).then((error) => ends.push(error));
    await clock.pass(0);
    expect(ends.length).toBeGreaterThan(10);
    expect(ends[0]).toMatchObject({ reason: "BREAKER_RAMPING", code: Status.UNAVAILABLE });
    expect(numbers("bulkhead")).toMatchObject({ running: 40 - ends.length });
    const critical = [1, 2, 3, 4, 5].map((n) => guard.run(() => n, { priority: "critical" }));
    expect(await Promise.all(critical)).toEqual([1, 2, 3, 4, 5]);
  });

  it("refuses before the queue, and gives the place back that it refuses behind it", async () => {
    const { clock, guard, numbers } = guarded({
      ...time,
      breaker: { consecutiveFailures: 1 },
      bulkhead: { maxConcurrent: 1, maxWaitMs: 1_000 },
    });
    const first = deferred();
    const runs = [guard.run(() => first.promise), guard.run(never)].map(rejected);
    first.reject(new Error("down"));
    const [, second] = await clock.until(Promise.all(runs));
    expect(second).toMatchObject({ reason: "BREAKER_OPEN" });
    expect(numbers("bulkhead")).toMatchObject({ running: 0, queued: 0 });
    expect(await rejected(guard.run(never))).toMatchObject({ reason: "BREAKER_OPEN" });
    expect(numbers("bulkhead")).toMatchObject({ admitted: 2 });
  });
});

describe("the modes of a guard's policies", () => {
  it("observe: everything runs, and the decisions say what would have been", async () => {
    const { clock, guard, decisions, numbers, environment, expectQuiet } = guarded({
      bulkhead: { maxConcurrent: 1, maxQueued: 1, maxWaitMs: 1_000, mode: "observe" },
      breaker: { consecutiveFailures: 1, mode: "observe" },
      retry: { mode: "observe", backoff: { jitter: "none" } },
    });
    const works = [deferred(), deferred(), deferred()];
    const runs = works.map((work) => ending(guard.run(() => work.promise)));
    expect(numbers("bulkhead")).toMatchObject({ running: 1, queued: 1, refused: 1 });
    await clock.pass(7);
    works[0]?.reject(new Error("down"));
    await clock.pass(0);
    expect(numbers("bulkhead")).toMatchObject({ running: 1, queued: 0 });
    works[1]?.resolve("fine");
    works[2]?.resolve("fine");
    await clock.until(Promise.all(runs));
    expect(await guard.run(() => "passes")).toBe("passes");
    expect(decisions.map(({ policy, verdict, reason }) => [policy, verdict, reason])).toEqual([
      ["bulkhead", "reject", "BULKHEAD_FULL"],
      ["retry", "retry", undefined],
      ["bulkhead", "queue", undefined],
      ["breaker", "reject", "BREAKER_OPEN"],
    ]);
    expect(decisions.every(({ enforced }) => !enforced)).toBe(true);
    const endedWell = { refused: 1, success: 1, failure: 0, ignored: 0 };
    expect(environment.observed.snapshot()).toEqual({
      bulkhead: { BULKHEAD_FULL: endedWell },
      breaker: { BREAKER_OPEN: endedWell },
    });
    expect(numbers("bulkhead")).toMatchObject({ running: 0, queued: 0 });
    await expectQuiet();
  });

  it("observe: a run that ends while it would still wait leaves the queue it would be in", async () => {
    const { guard, numbers } = guarded({
      bulkhead: { maxConcurrent: 1, maxQueued: 1, maxWaitMs: 1_000, mode: "observe" },
    });
    void guard.run(never);
    expect(await guard.run(() => "at once")).toBe("at once");
    expect(numbers("bulkhead")).toMatchObject({ running: 1, queued: 0, left: 1 });
  });

  it("off: the policy is not asked; and a mode holds from the next run on", async () => {
    const { guard, policies, numbers } = guarded({
      bulkhead: { maxConcurrent: 1, maxQueued: 0 },
      breaker: { consecutiveFailures: 1 },
    });
    for (const policy of policies.values()) policy.mode = "off";
    void guard.run(never);
    void guard.run(never);
    await rejected(guard.run(broken));
    // Not even made.
    expect(numbers("bulkhead")).toEqual({ bulkheads: {} });
    expect(numbers("breaker")).toMatchObject({ breakers: {} });
    for (const policy of policies.values()) policy.mode = "enforce";
    await rejected(guard.run(broken));
    expect(await rejected(guard.run(never))).toBeInstanceOf(GuardRejectedError);
  });
});

describe("closing the weir", () => {
  it("leaves work alone that has waited and is under way now", async () => {
    const { clock, guard, environment } = guarded({
      bulkhead: { maxConcurrent: 1, maxWaitMs: 1_000 },
      retry: { backoff: { baseMs: 10, jitter: "none" } },
    });
    const works = [deferred(), deferred(), deferred()];
    let attempts = 0;
    const runs = [
      guard.run(() => works[0]?.promise),
      guard.run(() => works[1]?.promise),
      guard.run(() => {
        attempts += 1;
        return attempts === 1 ? Promise.reject(new Error("down")) : works[2]?.promise;
      }),
    ];
    works[0]?.resolve("first");
    await clock.pass(0);
    expect(environment.pendingCalls.size).toBe(1);
    works[1]?.resolve("queued");
    await clock.pass(20);
    expect(attempts).toBe(2);
    environment.pendingCalls.close();
    works[2]?.resolve("tried again");
    expect(await clock.until(Promise.all(runs))).toEqual(["first", "queued", "tried again"]);
  });

  it.each(ways)("refuses new runs, %s", async (_way, time) => {
    const { guard, environment, decisions } = guarded({ ...time, breaker: {} });
    environment.pendingCalls.close();
    expect(await rejected(guard.run(() => "late"))).toMatchObject({ reason: "CLOSED" });
    expect(decisions).toMatchObject([{ verdict: "cancel", reason: "CLOSED" }]);
  });

  it("leaves work under way alone, and does not try again what fails", async () => {
    const { clock, guard, environment, expectQuiet } = guarded({
      retry: { backoff: { baseMs: 100 } },
    });
    const work = deferred();
    const run = rejected(guard.run(() => work.promise));
    environment.pendingCalls.close();
    work.reject(new Error("down"));
    expect(await clock.until(run)).toMatchObject({ reason: "CLOSED", cause: { message: "down" } });
    await expectQuiet();
  });

  it("ends waiting runs with CLOSED, those in backoff too, and refuses new ones; work under way may end", async () => {
    const { clock, guard, environment, numbers, expectQuiet } = guarded({
      bulkhead: { maxConcurrent: 2, maxWaitMs: 1_000 },
      retry: { backoff: { baseMs: 1_000, jitter: "none" } },
    });
    const first = deferred();
    const failing = rejected(guard.run(broken));
    await clock.pass(0);
    const running = guard.run(() => first.promise);
    void guard.run(() => first.promise);
    const queued = rejected(guard.run(never));
    expect(environment.pendingCalls.size).toBe(2);
    environment.pendingCalls.close();
    const closed = { reason: "CLOSED", code: Status.UNAVAILABLE };
    expect(await queued).toMatchObject(closed);
    expect(await failing).toMatchObject({ ...closed, cause: { message: "down" } });
    expect(await rejected(guard.run(() => 1))).toMatchObject(closed);
    await clock.pass(0);
    first.resolve("ended well");
    expect(await running).toBe("ended well");
    await clock.pass(0);
    expect(numbers("bulkhead")).toMatchObject({ running: 0, queued: 0 });
    await expectQuiet();
  });
});
