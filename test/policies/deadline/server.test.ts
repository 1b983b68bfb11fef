import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import type { ServerPolicy } from "../../../src/pipeline/server.js";
import type { FeasibilitySnapshot } from "../../../src/policies/deadline/server.js";
import { handlers, type Method, scene } from "../../scene.js";

/** A server whose handlers take as long as they are told to. */
async function slow(server: ServerPolicy) {
  let takesMs = 400;
  let handled = 0;
  const made = await scene({
    client: { retry: false, breaker: false },
    server,
    handlers: handlers((_call, answer) => {
      handled += 1;
      made.clock.schedule(takesMs, answer);
    }),
  });
  const within = (ms: number, method: Method = "unary") =>
    made.call(method, { deadline: made.clock.wallNow() + ms });
  const snapshot = () => {
    const policies = made.weir.snapshot().policies;
    return policies.feasibility?.instances[0] as FeasibilitySnapshot;
  };
  return {
    ...made,
    within,
    snapshot,
    handled: () => handled,
    take: (ms: number) => {
      takesMs = ms;
    },
    learn: async (times: number, withinMs = 60_000, method: Method = "unary"): Promise<void> => {
      const calls = Array.from({ length: times }, () =>
        made.start(method, { deadline: made.clock.wallNow() + withinMs }),
      );
      await made.link.until(Promise.all(calls.map(({ ended }) => ended)), 1e9);
    },
  };
}

const enforced = { deadlineGuard: { learned: { mode: "enforce" } } } as const;

describe("the learned deadline guard", () => {
  it("refuses a call whose handler could not end in time, before the handler", async () => {
    const { learn, within, handled, snapshot } = await slow(enforced);
    await learn(101);
    // Half of the median of 400 ms is needed.
    const ended = await within(100);
    expect(ended.code).toBe(Status.DEADLINE_EXCEEDED);
    expect(rejectionOf(ended.error)?.reason).toBe("DEADLINE_INFEASIBLE");
    // It tells what is needed, which is not what such calls take.
    expect(ended.error?.details).toMatch(/\b100 ms are left, (19\d|20\d) ms are needed\b/);
    expect(handled()).toBe(101);
    expect(snapshot()).toMatchObject({ infeasible: 1 });
    expect((await within(500)).code).toBe(Status.OK);
  });

  it("only records by default what it would have refused", async () => {
    const { learn, within, handled, decisions } = await slow({});
    await learn(101);
    await within(100);
    expect(handled()).toBe(102);
    expect(decisions.filter(({ policy }) => policy === "feasibility")).toMatchObject([
      { verdict: "reject", reason: "DEADLINE_INFEASIBLE", enforced: false },
    ]);
  });

  it("says nothing of a method before it knows it, nor of streams", async () => {
    const { learn, within, handled } = await slow(enforced);
    await learn(99);
    await within(100);
    expect(handled()).toBe(100);
    await learn(100, 60_000, "serverStream");
    await within(100, "serverStream");
    expect(handled()).toBe(201);
  });

  it("does not count the wait in the queue of admission", async () => {
    const { start, link, clock, snapshot } = await slow({
      ...enforced,
      admission: { limit: 1, maxQueued: 400, maxWaitMs: 600_000, thresholds: false },
    });
    const calls = Array.from({ length: 220 }, () =>
      start("unary", { deadline: clock.wallNow() + 600_000 }),
    );
    await link.until(Promise.all(calls.map(({ ended }) => ended)), 1e9);
    const [neededMs = 0] = Object.values(snapshot().neededMs);
    expect(neededMs).toBeGreaterThan(180);
    expect(neededMs).toBeLessThan(220);
  });

  it("lets a call through that is to find out, also out of the queue of admission", async () => {
    const waiting = async (passShare: number) => {
      const { learn, take, start, link, within, snapshot } = await slow({
        deadlineGuard: { learned: { mode: "enforce", passShare } },
        admission: { limit: 1, maxQueued: 400, maxWaitMs: 600_000, thresholds: false },
      });
      await learn(120, 600_000);
      take(50);
      const running = start("unary");
      await link.pass(1);
      // 200 ms are needed, and of 150 some are spent in the queue.
      const ended = await within(150);
      await link.until(running.ended);
      return { code: ended.code, passed: snapshot().passed };
    };
    expect(await waiting(1)).toEqual({ code: Status.OK, passed: 1 });
    expect(await waiting(0)).toEqual({ code: Status.DEADLINE_EXCEEDED, passed: 0 });
  });

  it("learns nothing while the server sheds, and so refuses nobody after an overload for what that was like", async () => {
    const { learn, take, start, link, clock, within, snapshot } = await slow({
      ...enforced,
      admission: { limit: 2, maxQueued: 2, maxWaitMs: 0 },
    });
    await learn(101);
    const before = snapshot().neededMs;
    take(3_000);
    for (let wave = 0; wave < 60; wave += 1) {
      const calls = [1, 2, 3, 4].map(() => start("unary", { deadline: clock.wallNow() + 10_000 }));
      await link.until(Promise.all(calls.map(({ ended }) => ended)), 1e9);
    }
    take(400);
    expect((await within(900)).code).toBe(Status.OK);
    for (const [method, neededMs] of Object.entries(snapshot().neededMs)) {
      expect(neededMs).toBeLessThanOrEqual((before[method] ?? 0) * 1.1);
    }
  });

  it("unlocks itself when what it has learnt is no longer true: some hopeless calls pass, and the window forgets", async () => {
    const { learn, take, start, link, clock, snapshot } = await slow(enforced);
    take(2_000);
    await learn(101);
    take(10);
    const codes = async (times: number) => {
      const calls = Array.from({ length: times }, () =>
        start("unary", { deadline: clock.wallNow() + 500 }),
      );
      const ended = await link.until(Promise.all(calls.map((call) => call.ended)), 1e9);
      return ended.filter(({ code }) => code === Status.OK).length;
    };
    const ok = await codes(600);
    const { passed, infeasible } = snapshot();
    expect(infeasible).toBeGreaterThan(500);
    expect(passed).toBeGreaterThan(0);
    expect(ok).toBe(passed);
    await clock.pass(60_000);
    expect(await codes(10)).toBe(10);
  });
});
