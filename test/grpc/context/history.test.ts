import { status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { DecisionEvent } from "../../../src/core/decision.js";
import type { FinishedCall } from "../../../src/grpc/context/finished-call.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { createWeir } from "../../../src/weir.js";
import { failing, handlers, kinds, path, scene } from "../../scene.js";

const retrying = {
  retry: { idempotent: true, backoff: { baseMs: 80, jitter: "none" } },
  breaker: false,
} as const;

describe.each(kinds)("a %s call that has ended", (kind) => {
  it("is in the history of its client and of its server, as plain data", async () => {
    const { call, weir, clock } = await scene({ client: {}, server: {} });
    const startedEpochMs = clock.wallNow();
    expect((await call(kind, { deadline: clock.wallNow() + 1_000 })).code).toBe(Status.OK);
    const { last, failed, slow } = weir.history();
    expect([failed, slow]).toEqual([[], []]);
    const client = last.find(({ side }) => side === "client");
    expect(client).toMatchObject({
      method: path[kind],
      status: "OK",
      code: 0,
      startedEpochMs,
      deadlineMs: 1_000,
      attemptCount: 1,
      attempts: [{ number: 1, cause: "first", status: "OK", delayMs: 0 }],
      decidedBy: 1,
      decisions: [],
      waits: [],
      degraded: [],
    });
    const server = last.find(({ side }) => side === "server");
    expect(server).toMatchObject({ method: path[kind], status: "OK", priority: "normal" });
    expect(server?.kind).toBe(client?.kind);
    expect(JSON.parse(JSON.stringify(last))).toEqual(last);
  });

  it("is told to onCall once on each side, with all attempts and waits", async () => {
    const told: FinishedCall[] = [];
    const { call } = await scene({
      client: retrying,
      server: {},
      handlers: failing(2).handlers,
      onCall: (ended) => told.push(ended),
    });
    await call(kind);
    const clients = told.filter(({ side }) => side === "client");
    expect(clients).toHaveLength(1);
    expect(clients[0]).toMatchObject({
      status: "OK",
      attemptCount: 3,
      decidedBy: 3,
      attempts: [
        { number: 1, cause: "first", status: "UNAVAILABLE", origin: "remote", details: "not now" },
        { number: 2, cause: "retry", status: "UNAVAILABLE", delayMs: 80 },
        { number: 3, cause: "retry", status: "OK", delayMs: 160 },
      ],
      waits: [
        { kind: "backoff", policy: "retry", ms: 80 },
        { kind: "backoff", policy: "retry", ms: 160 },
      ],
    });
    const servers = told.filter(({ side }) => side === "server");
    expect(servers.map(({ status, details }) => [status, details])).toEqual([
      ["UNAVAILABLE", "not now"],
      ["UNAVAILABLE", "not now"],
      ["OK", ""],
    ]);
  });

  it("is among the failed ones when it failed, with who said so", async () => {
    const { call, weir } = await scene({
      client: { retry: false, breaker: false },
      server: {},
      handlers: failing(1).handlers,
    });
    await call(kind);
    const [server, client] = weir.history().failed.toSorted((a, b) => b.side.localeCompare(a.side));
    expect(client).toMatchObject({
      side: "client",
      status: "UNAVAILABLE",
      details: "not now",
      origin: "remote",
      decidedBy: 1,
    });
    expect(server).toMatchObject({ side: "server", status: "UNAVAILABLE", details: "not now" });
  });

  it("says that its caller cancelled it", async () => {
    const { start, weir, link, clock } = await scene({
      client: {},
      server: {},
      handlers: handlers(() => {}),
    });
    const running = start(kind);
    await clock.pass(5);
    running.cancel();
    await link.until(running.ended, 1_000);
    await clock.pass(100);
    const { failed } = weir.history();
    expect(failed.map(({ side, status }) => `${side} ${status}`).sort()).toEqual([
      "client CANCELLED",
      "server CANCELLED",
    ]);
    expect(failed.find(({ side }) => side === "client")?.origin).toBe("caller");
  });
});

describe("the rings", () => {
  it("keep the latest calls, the latest first, and forget older ones", async () => {
    const { call, weir } = await scene({ client: {}, history: { last: 3 } });
    for (const kind of kinds) await call(kind);
    expect(weir.history().last.map(({ method }) => method)).toEqual(
      kinds
        .slice(1)
        .map((kind) => path[kind])
        .reverse(),
    );
  });

  it("keep failed calls when many others have ended since", async () => {
    const { call, weir } = await scene({
      client: { retry: false, breaker: false },
      handlers: failing(2).handlers,
      history: { last: 2, failed: 1 },
    });
    for (let n = 0; n < 8; n += 1) await call("unary");
    const { last, failed } = weir.history();
    expect(last.map(({ status }) => status)).toEqual(["OK", "OK"]);
    expect(failed.map(({ status }) => status)).toEqual(["UNAVAILABLE"]);
  });

  it.each([
    ["999 ms are not slow while nothing is known of the method", 999, 0],
    ["1,000 ms are", 1_000, 1],
  ])("%s", async (_what, ms, slow) => {
    const clock = new VirtualClock();
    const { call, weir } = await scene({
      clock,
      client: {},
      handlers: handlers((_call, answer) => clock.schedule(ms, answer)),
    });
    await call("unary");
    expect(weir.history().slow).toHaveLength(slow);
  });

  it("a call is slow that takes five times as long as its method usually does, and 100 ms at least", async () => {
    const clock = new VirtualClock();
    let ms = 30;
    const { call, weir } = await scene({
      clock,
      client: {},
      handlers: handlers((_call, answer) => clock.schedule(ms, answer)),
    });
    for (let n = 0; n < 30; n += 1) await call("unary");
    ms = 120;
    await call("unary");
    expect(weir.history().slow).toEqual([]);
    ms = 170;
    await call("unary");
    expect(weir.history().slow.map(({ durationMs }) => Math.round(durationMs))).toEqual([170]);
  });

  it("a stream is never slow, however long it is used", async () => {
    const clock = new VirtualClock();
    const { call, weir } = await scene({
      clock,
      client: {},
      server: {},
      history: { slowMs: 10 },
      handlers: handlers((_call, answer) => clock.schedule(60, answer)),
    });
    for (const kind of kinds) await call(kind);
    const { slow } = weir.history();
    expect(slow.map(({ kind, side }) => `${side} ${kind}`).sort()).toEqual([
      "client unary",
      "server unary",
    ]);
  });

  it("keep nothing when that is switched off, and onCall is told all the same", async () => {
    const told: string[] = [];
    const { call, weir } = await scene({
      client: {},
      history: false,
      onCall: ({ status }) => told.push(status),
    });
    await call("unary");
    expect(weir.history()).toEqual({ last: [], failed: [], slow: [] });
    expect(told).toEqual(["OK"]);
  });

  it.each<[object, string]>([
    [{ last: -1 }, "createWeir.history.last must be a whole number from 0 to 100000, got -1"],
    [{ failed: 1.5 }, "createWeir.history.failed must be"],
    [{ slow: Number.NaN }, "createWeir.history.slow must be"],
    [{ slowMs: 0 }, "createWeir.history.slowMs must be milliseconds from 1"],
    [{ size: 3 }, "createWeir.history.size is not an option"],
  ])("refuse %j", (history, message) => {
    expect(() => createWeir({ history })).toThrow(message);
  });

  it("refuse an onCall that is no function", () => {
    const options: object = { onCall: "log" };
    expect(() => createWeir(options)).toThrow("createWeir.onCall must be");
  });
});

describe("an onCall that throws", () => {
  it.each(kinds)("does not affect a %s call, and is reported", async (kind) => {
    const errors: unknown[] = [];
    const { call } = await scene({
      client: {},
      server: {},
      onCall: () => {
        throw new Error("broken logger");
      },
      onError: (error) => errors.push(error),
    });
    expect((await call(kind)).code).toBe(Status.OK);
    expect(errors).toHaveLength(2);
  });
});

describe("guarded runs", () => {
  const told: FinishedCall[] = [];
  const clock = new VirtualClock();
  const weir = createWeir({ clock, onCall: (run) => told.push(run) });

  it("are told with their attempts, when they end well", async () => {
    told.length = 0;
    let attempts = 0;
    const guard = weir.guard("pool", { retry: { backoff: { baseMs: 10, jitter: "none" } } });
    const work = () => {
      attempts += 1;
      if (attempts === 1) throw new TypeError("lost");
      return "done";
    };
    await clock.until(guard.run(work, { priority: "high" }), 1_000);
    expect(told).toMatchObject([
      {
        side: "guard",
        method: "pool",
        status: "OK",
        priority: "high",
        attemptCount: 2,
        attempts: [{ number: 1, status: "TypeError", details: "lost" }],
        decisions: [{ policy: "retry", verdict: "retry", waitMs: 10 }],
      },
    ]);
    expect(told[0]).not.toHaveProperty("kind");
  });

  it("are kept when their work fails or a policy refuses them", async () => {
    told.length = 0;
    const guard = weir.guard("once", { breaker: { consecutiveFailures: 1 } });
    const failed = await guard.run(() => Promise.reject(new RangeError("no"))).catch(String);
    const refused = await guard.run(() => "never").catch(String);
    expect([failed, refused]).toEqual(["RangeError: no", expect.stringContaining("Breaker open")]);
    expect(told).toMatchObject([
      { status: "RangeError", code: Status.UNKNOWN, details: "no" },
      { status: "GuardRejectedError", reason: "BREAKER_OPEN", refusedBy: "breaker", code: 14 },
    ]);
  });

  it("are kept when a policy refuses them on the shortest path", async () => {
    const quiet = createWeir({ clock });
    const guard = quiet.guard("once", { breaker: { consecutiveFailures: 1 } });
    await guard.run(() => Promise.reject(new RangeError("no"))).catch(String);
    await guard.run(() => "never").catch(String);
    expect(quiet.history().failed).toMatchObject([
      { status: "GuardRejectedError", reason: "BREAKER_OPEN", refusedBy: "breaker" },
    ]);
  });

  it("that end well are not kept", async () => {
    const quiet = createWeir({ clock });
    const guard = quiet.guard("pool", { timeouts: { totalMs: 100 } });
    await guard.run(() => "done");
    await guard.run(() => Promise.reject(new RangeError("no"))).catch(String);
    expect(quiet.history().last).toMatchObject([{ status: "RangeError", durationMs: 0 }]);
  });

  it("say that a fallback answered", async () => {
    told.length = 0;
    const guard = weir.guard("stock", { fallback: { answer: () => "old" } });
    await guard.run(() => Promise.reject(new Error("down")));
    expect(told).toMatchObject([
      { status: "OK", degraded: [{ source: "fallback", name: "stock" }], attemptCount: 1 },
    ]);
  });

  it("are what they were, whatever an observer makes of what it is told", async () => {
    const clumsy = createWeir({
      clock,
      onCall: ({ degraded }) => {
        for (const one of degraded) Object.assign(one, { name: "changed" });
        Reflect.set(degraded, degraded.length, { source: "handler", name: "added" });
      },
    });
    const guard = clumsy.guard("stock", { fallback: { answer: () => "old" } });
    await guard.run(() => Promise.reject(new Error("down")));
    expect(clumsy.history().last).toMatchObject([
      { degraded: [{ source: "fallback", name: "stock" }] },
    ]);
  });
});

describe("a decision", () => {
  it("is told with the time of day, the priority and the attempt", async () => {
    const { call, decisions, weir, clock } = await scene({
      client: retrying,
      handlers: failing(1).handlers,
    });
    const epochMs = clock.wallNow();
    await call("unary", weir.with({}, { priority: "high" }));
    const [retry] = decisions.filter(({ verdict }) => verdict === "retry");
    expect(retry).toMatchObject({ priority: "high", attempt: 1, side: "client", epochMs });
  });

  it("of a server has the priority of the call, and no attempt", async () => {
    const { call, decisions } = await scene({
      server: { admission: { limit: 1, maxQueued: 0 } },
      handlers: handlers(() => {}),
      client: { retry: false, breaker: false },
    });
    const running = call("unary", {});
    await Promise.race([running, call("unary")]);
    const [refused] = decisions.filter(({ side }) => side === "server");
    expect(refused).toMatchObject({
      verdict: "reject",
      priority: "normal",
    } satisfies Partial<DecisionEvent>);
    expect(refused).not.toHaveProperty("attempt");
  });
});
