import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import { handlers, kinds, scene } from "../../scene.js";

const bare = { retry: false, breaker: false } as const;

function priority(value: string): Metadata {
  const metadata = new Metadata();
  metadata.set("x-request-priority", value);
  return metadata;
}

describe.each(kinds)("admission of %s", (method) => {
  it("runs up to the limit, queues up to maxQueued, and refuses the rest with pushback", async () => {
    let running = 0;
    let peak = 0;
    const { start, link, clock, weir } = await scene({
      client: bare,
      server: {
        admission: {
          streams: "together",
          limit: 2,
          maxQueued: 1,
          maxWaitMs: 1_000,
          thresholds: { low: 1, normal: 1, high: 1 },
        },
      },
      handlers: handlers((_call, answer) => {
        running += 1;
        peak = Math.max(peak, running);
        clock.schedule(50, () => {
          running -= 1;
          answer();
        });
      }),
    });
    const calls = [1, 2, 3, 4, 5].map(() => start(method));
    const ended = await link.until(Promise.all(calls.map((call) => call.ended)));
    const refused = ended.filter(({ code }) => code !== Status.OK);
    expect(refused.map(({ code }) => code)).toEqual([8, 8]);
    for (const { error, trailers } of refused) {
      expect(rejectionOf(error ?? {})).toMatchObject({ reason: "CONCURRENCY_LIMIT", local: false });
      expect(trailers.get("grpc-retry-pushback-ms")[0]).toMatch(/^\d+$/);
      expect(rejectionOf(error ?? {})?.metadata).toMatchObject({ priority: "normal" });
    }
    expect(peak).toBe(2);
    await link.pass(10);
    expect(link.inFlight()).toBe(0);
    expect(clock.pending.refs).toBe(0);
    expect(JSON.stringify(weir.snapshot())).toContain('"running":0,"abandoned":0,"queued":0');
  });

  it("tells a limit that learns nothing of errors that came at a glance", async () => {
    const told: number[] = [];
    const limit = { current: 10, record: (_now: number, tookMs: number) => told.push(tookMs) };
    const { call, clock } = await scene({
      client: bare,
      server: { admission: { streams: "together", limit } },
      handlers: handlers(({ metadata, fail }, answer) => {
        const [code] = metadata.get("code");
        const end = () =>
          code === undefined ? answer() : fail({ code: Number(code), details: "" });
        const [afterMs = "0"] = metadata.get("after");
        clock.schedule(Number(afterMs), end);
      }),
    });
    const run = async (afterMs: number, code?: Status) => {
      const metadata = new Metadata();
      metadata.set("after", `${afterMs}`);
      if (code !== undefined) metadata.set("code", `${code}`);
      await call(method, {}, metadata);
    };
    await run(100);
    // However many of them.
    for (let error = 0; error < 60; error += 1) await run(1, Status.INVALID_ARGUMENT);
    await run(90, Status.NOT_FOUND);
    await run(0);
    expect(told).toHaveLength(3);
    expect(told[1]).toBeGreaterThanOrEqual(90);
  });

  it("sheds the lower priorities first", async () => {
    const { start, link, clock } = await scene({
      client: bare,
      server: { admission: { streams: "together", limit: 10, maxQueued: 0 } },
      handlers: handlers((_call, answer) => clock.schedule(100, answer)),
    });
    const fill = Array.from({ length: 7 }, () => start(method));
    await link.pass(1);
    const tried = ["low", "normal", "high", "critical"].map((value) =>
      start(method, {}, priority(value)),
    );
    const ended = await link.until(Promise.all(tried.map((call) => call.ended)));
    expect(ended.map(({ code }) => code)).toEqual([8, 0, 0, 0]);
    expect(rejectionOf(ended[0]?.error ?? {})?.reason).toBe("LOAD_SHED");
    await link.until(Promise.all(fill.map((call) => call.ended)));
  });

  it("closes the reader of the process with the server, and sheds no share without pressure", async () => {
    let closed = 0;
    const reader = {
      read: () => ({ eventLoop: 0, loopDelayMs: 0, cpu: 0, memory: 0 }),
      close: () => {
        closed += 1;
      },
    };
    const { weir, call } = await scene({
      client: bare,
      server: { admission: { pressure: { reader } } },
    });
    await call(method);
    weir.close();
    expect(closed).toBe(1);
    const other = await scene({ client: bare, server: { admission: { pressure: false } } });
    expect(other.weir.policy("admission").snapshot()).toMatchObject([{ shedShare: 0 }]);
  });

  it("forgets a caller who leaves while queued, and never runs the handler for him", async () => {
    let handled = 0;
    const { start, link, clock } = await scene({
      client: bare,
      server: { admission: { streams: "together", limit: 1, maxQueued: 5, maxWaitMs: 10_000 } },
      handlers: handlers((_call, answer) => {
        handled += 1;
        clock.schedule(100, answer);
      }),
    });
    const first = start(method);
    await link.pass(1);
    const second = start(method);
    await link.pass(1);
    second.cancel();
    await link.until(Promise.all([first.ended, second.ended]));
    await link.pass(200);
    expect(handled).toBe(1);
    expect(link.inFlight()).toBe(0);
    expect(clock.pending.refs).toBe(0);
  });

  it("refuses everybody who waits or comes once the weir is closed", async () => {
    const {
      start,
      link,
      weir,
      clock,
      client: _client,
    } = await scene({
      client: bare,
      server: { admission: { streams: "together", limit: 1, maxQueued: 5, maxWaitMs: 10_000 } },
      handlers: handlers((_call, answer) => clock.schedule(100, answer)),
    });
    const first = start(method);
    await link.pass(1);
    const second = start(method);
    await link.pass(1);
    weir.close();
    const ended = await link.until(Promise.all([first.ended, second.ended]));
    expect(ended.map(({ code }) => code)).toEqual([Status.OK, Status.UNAVAILABLE]);
    expect(rejectionOf(ended[1]?.error ?? {})?.reason).toBe("DRAINING");
    const third = await link.until(start(method).ended);
    expect(rejectionOf(third.error ?? {})).toMatchObject({ reason: "CLOSED", local: true });
  });

  it("refuses nobody while it observes, and says whom it would have refused", async () => {
    const { start, link, clock, decisions } = await scene({
      client: bare,
      server: { admission: { streams: "together", limit: 1, maxQueued: 0, mode: "observe" } },
      handlers: handlers((_call, answer) => clock.schedule(20, answer)),
    });
    const calls = [1, 2, 3].map(() => start(method));
    const ended = await link.until(Promise.all(calls.map((call) => call.ended)));
    expect(ended.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(decisions).toMatchObject([
      { policy: "admission", verdict: "reject", enforced: false, side: "server" },
      { policy: "admission", verdict: "reject", enforced: false, side: "server" },
    ]);
  });
});

describe.each(kinds)("deadline guard of %s", (method) => {
  it("refuses a call with too little time left before its handler runs", async () => {
    let handled = 0;
    const { call, clock } = await scene({
      client: bare,
      server: { deadlineGuard: { minRemainingMs: 200 } },
      handlers: handlers((_call, answer) => {
        handled += 1;
        answer();
      }),
    });
    const refused = await call(method, { deadline: clock.wallNow() + 100 });
    expect(refused.code).toBe(Status.DEADLINE_EXCEEDED);
    expect(rejectionOf(refused.error ?? {})).toMatchObject({
      reason: "DEADLINE_INFEASIBLE",
      local: false,
    });
    expect(handled).toBe(0);
    expect((await call(method, { deadline: clock.wallNow() + 500 })).code).toBe(Status.OK);
    expect((await call(method)).code).toBe(Status.OK);
  });

  it("refuses a call that was too long under way", async () => {
    let handled = 0;
    const { call, clock, link, decisions } = await scene({
      client: bare,
      server: {},
      network: { toServer: { latencyMs: 100 } },
      handlers: handlers(() => {
        handled += 1;
      }),
    });
    await call(method, { deadline: clock.wallNow() + 40 });
    await link.pass(500);
    expect(handled).toBe(0);
    expect(decisions.filter(({ side }) => side === "server").length).toBeLessThanOrEqual(1);
  });
});

it("reads nothing of the real process where time is virtual", async () => {
  const { weir, call, clock } = await scene({ client: bare, server: { admission: {} } });
  for (let second = 0; second < 3; second += 1) {
    await call("unary");
    await clock.pass(1_000);
  }
  const [snapshot] = weir.policy("admission").snapshot();
  expect(snapshot).toMatchObject({ pressure: { pressure: 0, signals: { memory: 0 } } });
});

it("says nothing of streams apart where they are counted together", async () => {
  for (const [streams, apart] of [
    ["together", false],
    [{}, true],
  ] as const) {
    const { weir, call } = await scene({ client: bare, server: { admission: { streams } } });
    await call("bidiStream");
    const [snapshot] = weir.policy("admission").snapshot();
    expect(Object.hasOwn(snapshot ?? {}, "streams")).toBe(apart);
  }
});

it("calls that last do not keep others out of a limit that has room", async () => {
  const { start, call, link, clock, weir } = await scene({
    client: bare,
    server: { admission: {} },
    handlers: handlers(({ metadata }, answer) => {
      clock.schedule(metadata.get("poll").length > 0 ? 30_000 : 20, answer);
    }),
  });
  const poll = new Metadata();
  poll.set("poll", "1");
  for (let round = 0; round < 200; round += 1) {
    void start("unary");
    await link.pass(10);
  }
  for (let count = 0; count < 40; count += 1) void start("unary", {}, poll);
  await link.pass(600);
  const codes = [];
  for (let round = 0; round < 20; round += 1) codes.push((await call("unary")).code);
  expect(new Set(codes)).toEqual(new Set([Status.OK]));
  expect(weir.policy("admission").snapshot()[0]).toMatchObject({ running: 40 });
});
