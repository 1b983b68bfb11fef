import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import type { Outcome } from "../../../src/core/permit.js";
import { InboundCall } from "../../../src/grpc/context/inbound-call.js";
import { environmentOf } from "../../../src/grpc/environment.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import type { CallKind } from "../../../src/grpc/types.js";
import type { ServerPolicy } from "../../../src/pipeline/server.js";
import {
  DeadlineGuardPolicy,
  type DeadlineGuardPolicyOptions,
  deadlineGuard,
  deadlineGuards,
  FeasibilityPolicy,
  type FeasibilitySnapshot,
} from "../../../src/policies/deadline/server.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { createWeir } from "../../../src/weir.js";
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

/** The guards of a server that is asked by the test, whose handlers have taken 100 ms each. */
function guards(options: DeadlineGuardPolicyOptions = {}, server: { lostMs?: number } = {}) {
  const clock = new VirtualClock();
  const environment = environmentOf({ clock, random: () => 0.5 }, "test");
  const state = { shedding: false, lostMs: server.lostMs ?? 0 };
  const policies = deadlineGuards(options, state, environment, "guard");
  const guard = policies.find((policy) => policy instanceof DeadlineGuardPolicy);
  const feasibility = policies.find((policy) => policy instanceof FeasibilityPolicy);
  const call = (leftMs: number, kind: CallKind = "unary", method = "/a.B/C") =>
    new InboundCall({
      method,
      kind,
      caller: { getPeer: () => "", getAuthContext: () => ({}) },
      clock,
      report: environment.report,
      startedAtMs: clock.now(),
      deadlineMs: clock.now() + leftMs,
    });
  const learn = (outcome: Outcome = "success", handled = true) => {
    const served = call(Infinity);
    const permit = feasibility?.enter(served);
    if (handled) served.handlerStartedMs = clock.now() - 100;
    if (permit !== undefined && "settle" in permit) permit.settle(outcome);
  };
  return { guard, feasibility, state, call, learn };
}

describe("the deadline guard", () => {
  it.each([
    [{}, 0.25, undefined],
    [{}, 0, "DEADLINE_EXPIRED"],
    [{}, -3, "DEADLINE_EXPIRED"],
    [{}, Infinity, undefined],
    [{ minRemainingMs: 50 }, 50, undefined],
    [{ minRemainingMs: 50 }, 49.9, "DEADLINE_INFEASIBLE"],
    [{ minRemainingMs: 50 }, 0, "DEADLINE_EXPIRED"],
  ])(
    "with %j answers a call that has %d ms left with %s, and counts it",
    (given, leftMs, reason) => {
      const { guard, call } = guards({ ...given, learned: false });
      const answer = guard?.enter(call(leftMs));
      expect(answer === undefined ? undefined : "reason" in answer && answer.reason).toBe(reason);
      expect(guard?.snapshot()).toEqual({
        expired: reason === "DEADLINE_EXPIRED" ? 1 : 0,
        infeasible: reason === "DEADLINE_INFEASIBLE" ? 1 : 0,
      });
    },
  );

  it("tells how much time is left in whole milliseconds, and how much is needed", () => {
    const { guard, call } = guards({ minRemainingMs: 50 });
    expect(guard?.enter(call(12.9))).toMatchObject({ detail: "12 ms are left, 50 ms are needed" });
  });

  it("refuses unless told otherwise, and what it learns only records", () => {
    const modes = (options: DeadlineGuardPolicyOptions) => {
      const { guard, feasibility } = guards(options);
      return [guard?.mode, feasibility?.mode];
    };
    expect(modes({})).toEqual(["enforce", "observe"]);
    expect(modes({ mode: "observe", learned: { mode: "enforce" } })).toEqual([
      "observe",
      "enforce",
    ]);
    expect(modes({ learned: false })).toEqual(["enforce", undefined]);
  });

  it.each<[string, unknown]>([
    ["server.deadlineGuard.mode", { mode: "on" }],
    ["server.deadlineGuard.minRemainingMs", { minRemainingMs: -1 }],
    ["server.deadlineGuard.learned.mode", { learned: { mode: "on" } }],
    ["server.deadlineGuard.learned.share", { learned: { share: 0 } }],
    ["server.deadlineGuard.least", { least: 1 }],
  ])("refuses nonsense and names %s", (option, given) => {
    const build = () => createWeir().server({ deadlineGuard: given as DeadlineGuardPolicyOptions });
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(expect.objectContaining({ option }));
  });

  it("stands alone, without what is learned", async () => {
    const { call, clock } = await scene({
      ownServer: { interceptors: [deadlineGuard({ minRemainingMs: 200 })] },
    });
    const within = async (ms: number) => {
      const { error } = await call("unary", { deadline: clock.wallNow() + ms });
      return rejectionOf(error ?? {})?.reason;
    };
    expect(await within(100)).toBe("DEADLINE_INFEASIBLE");
    expect(await within(300)).toBeUndefined();
    const learned = { learned: {} } as Parameters<typeof deadlineGuard>[0];
    expect(() => deadlineGuard(learned)).toThrow(
      expect.objectContaining({ option: "deadlineGuard.learned" }),
    );
  });
});

describe("what the deadline guard learns", () => {
  const learned = { mode: "enforce", minCalls: 1, share: 1, passShare: 0 } as const;

  it("concerns calls with one response, but for those that a server answers of itself", () => {
    const { feasibility, call } = guards({ learned });
    const kinds: readonly CallKind[] = ["unary", "client-stream", "server-stream", "bidi"];
    expect(kinds.map((kind) => feasibility?.modeFor(call(100, kind)))).toEqual([
      "enforce",
      "enforce",
      "off",
      "off",
    ]);
    const health = call(100, "unary", "/grpc.health.v1.Health/Check");
    expect(feasibility?.modeFor(health)).toBe("off");
  });

  it("refuses a call that has less than it takes, and tells both in whole milliseconds", () => {
    const { feasibility, call, learn } = guards({ learned });
    learn();
    const [neededMs = 0] = Object.values(feasibility?.snapshot().neededMs ?? {});
    expect(neededMs).toBeGreaterThan(95);
    const short = feasibility?.enter(call(40.9));
    const detail = `40 ms are left, ${Math.ceil(neededMs)} ms are needed, judging by how long such calls took`;
    expect(short).toMatchObject({ reason: "DEADLINE_INFEASIBLE", detail });
    expect(feasibility?.enter(call(-7))).toMatchObject({
      detail: expect.stringMatching(/^0 ms are left/),
    });
    expect(feasibility?.enter(call(120))).not.toHaveProperty("reason");
    expect(feasibility?.snapshot()).toMatchObject({ infeasible: 2, passed: 0 });
  });

  it("takes off what a call has waited for the event loop, but refuses nobody for that alone", () => {
    const { feasibility, call, learn } = guards({ learned }, { lostMs: 60 });
    expect(feasibility?.enter(call(40))).not.toHaveProperty("reason");
    learn();
    expect(feasibility?.enter(call(120))).toMatchObject({ reason: "DEADLINE_INFEASIBLE" });
    expect(feasibility?.enter(call(180))).not.toHaveProperty("reason");
  });

  it("is nothing of a call whose handler was not run or whose end says nothing, nor while the server sheds", () => {
    const { feasibility, state, learn } = guards({ learned });
    learn("ignored");
    learn("failure", false);
    state.shedding = true;
    learn();
    expect(feasibility?.snapshot().neededMs).toEqual({});
    state.shedding = false;
    learn("failure");
    expect(Object.keys(feasibility?.snapshot().neededMs ?? {})).toEqual(["/a.B/C"]);
  });

  it("tells admission what a call needs, where it is enforced", () => {
    for (const mode of ["enforce", "observe"] as const) {
      const { feasibility, call, learn } = guards({ learned: { ...learned, mode } });
      learn();
      const inbound = call(500);
      feasibility?.enter(inbound);
      expect(inbound.neededMs > 0).toBe(mode === "enforce");
    }
  });

  it.each([
    [59_000, 1],
    [61_000, 0],
  ])(
    "is also how long a handler runs whose caller has left, if it answers: after %d ms, %d known",
    async (tookMs, known) => {
      const { start, link, take, clock, snapshot } = await slow({
        deadlineGuard: { learned: { minCalls: 1, windowMs: 600_000 } },
      });
      take(tookMs);
      const running = start("unary");
      await link.pass(10);
      running.cancel();
      await link.until(running.ended);
      await clock.pass(tookMs + 1_000);
      expect(Object.keys(snapshot().neededMs)).toHaveLength(known);
    },
  );
});

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
