import { status as Status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { currentCall } from "../../src/grpc/context/inbound-call.js";
import { value } from "../../src/policies/fallback/client-providers.js";
import { handlers, kinds, path, type SceneOptions, scene } from "../scene.js";
import { type MeteringUnderTest, metering } from "./metering.js";
import { startTracing } from "./tracing.js";

let meters: MeteringUnderTest;

beforeEach(() => {
  meters = metering();
  meters.register();
});

afterEach(() => meters.stop());

/** Answers after so many milliseconds. */
function answeringAfter(
  ms: number,
  clock: () => { schedule(ms: number, task: () => void): unknown },
) {
  return handlers((_call, answer) => void clock().schedule(ms, answer));
}

async function open(options: SceneOptions, ms = 20) {
  const world = await scene({
    client: {},
    server: {},
    handlers: answeringAfter(ms, () => world.clock),
    ...options,
  });
  return world;
}

describe.each(kinds)("a %s call", (method) => {
  const name = path[method].slice(1);

  it("is measured on both sides, by method and status", async () => {
    const world = await open({});
    expect((await world.call(method)).code).toBe(Status.OK);
    const [client, ...more] = await meters.points("rpc.client.call.duration");
    const servers = await meters.points("rpc.server.call.duration");
    expect(more).toEqual([]);
    expect(client?.attributes).toEqual({
      "rpc.system.name": "grpc",
      "rpc.method": name,
      "rpc.status_code": "OK",
      "server.address": expect.any(String),
      ...(client?.attributes["server.port"] === undefined
        ? {}
        : { "server.port": expect.any(Number) }),
    });
    expect(servers).toEqual([
      {
        attributes: { "rpc.system.name": "grpc", "rpc.method": name, "rpc.status_code": "OK" },
        value: 0.02,
        count: 1,
      },
    ]);
    expect(client?.value).toBe(0.02);
    expect(await meters.values("weir.calls", "weir.side", "rpc.method", "rpc.status_code")).toEqual(
      {
        [`client ${name} OK`]: 1,
        [`server ${name} OK`]: 1,
      },
    );
    expect(
      await meters.values("weir.attempts", "weir.attempt.cause", "weir.attempt.origin"),
    ).toEqual({
      "first remote": 1,
    });
  });

  it("that fails names its code as the type of the error, on a server where the fault is its own", async () => {
    const codes = [Status.NOT_FOUND, Status.INTERNAL];
    let calls = 0;
    const world = await open({
      handlers: handlers((call) => {
        const code = codes[calls] ?? Status.OK;
        calls += 1;
        call.fail({ code, details: "no" });
      }),
    });
    await world.call(method);
    await world.call(method);
    const errors = (metric: string) => meters.values(metric, "rpc.status_code", "error.type");
    expect(Object.keys(await errors("rpc.client.call.duration")).sort()).toEqual([
      "INTERNAL INTERNAL",
      "NOT_FOUND NOT_FOUND",
    ]);
    expect(Object.keys(await errors("rpc.server.call.duration")).sort()).toEqual([
      "INTERNAL INTERNAL",
      "NOT_FOUND ",
    ]);
  });

  it("that its caller cancels has ended for both sides", async () => {
    const world = await open({}, 1_000);
    const running = world.start(method);
    await world.link.pass(10);
    running.cancel();
    await world.link.pass(10);
    expect(await meters.values("rpc.client.call.duration", "rpc.status_code")).toEqual({
      CANCELLED: 0.01,
    });
    expect(await meters.values("rpc.server.call.duration", "rpc.status_code")).toEqual({
      CANCELLED: 0.01,
    });
    await world.link.pass(1_000);
  });

  it("that runs out of time has ended for both sides", async () => {
    const world = await open({ client: { deadline: { defaultMs: 50 } } }, 1_000);
    expect((await world.call(method)).code).toBe(Status.DEADLINE_EXCEEDED);
    await world.link.pass(50);
    for (const side of ["client", "server"]) {
      const ended = await meters.values(`rpc.${side}.call.duration`, "rpc.status_code");
      expect(Object.keys(ended)).toEqual(["DEADLINE_EXCEEDED"]);
    }
    await world.link.pass(1_000);
  });

  it("has each of its retries counted, with the origin of each end", async () => {
    let calls = 0;
    const world = await open({
      client: { retry: { idempotent: true, backoff: { baseMs: 100, jitter: "none" } } },
      handlers: handlers((call, answer) => {
        calls += 1;
        if (calls < 3) call.fail({ code: Status.UNAVAILABLE, details: "not now" });
        else answer();
      }),
    });
    expect((await world.call(method)).code).toBe(Status.OK);
    expect(await meters.values("weir.attempts", "weir.attempt.cause", "rpc.status_code")).toEqual({
      "first UNAVAILABLE": 1,
      "retry UNAVAILABLE": 1,
      "retry OK": 1,
    });
    expect(
      await meters.values("weir.decisions", "weir.side", "weir.policy", "weir.verdict"),
    ).toMatchObject({ "client retry retry": 2 });
    const [duration] = await meters.points("rpc.client.call.duration");
    expect(duration).toMatchObject({ count: 1, value: expect.closeTo(0.3, 1) });
  });

  it("has its hedge counted, and the attempt that lost", async () => {
    let calls = 0;
    const world = await open({
      client: { retry: { idempotent: true }, hedge: { delayMs: 50 } },
      network: { latencyMs: 1 },
      handlers: handlers((_call, answer) => {
        calls += 1;
        if (calls > 1) answer();
      }),
    });
    expect((await world.call(method)).code).toBe(Status.OK);
    await world.link.pass(10);
    expect(
      await meters.values("weir.attempts", "weir.attempt.cause", "weir.attempt.origin"),
    ).toEqual({ "first superseded": 1, "hedge remote": 1 });
  });

  it("has a lost attempt counted as lost, also when it runs out with an answer of its own", async () => {
    let calls = 0;
    const world = await open({
      client: {
        retry: { idempotent: true },
        hedge: { delayMs: 50 },
        resets: { burst: 4, ratePerSecond: 1 },
      },
      network: { latencyMs: 1 },
      handlers: handlers((_call, answer) => {
        calls += 1;
        if (calls % 2 === 0) answer();
        else world.clock.schedule(500, answer);
      }),
    });
    for (let call = 0; call < 3; call += 1) await world.call(method);
    await world.link.pass(1_000);
    const byCode = await meters.values("weir.attempts", "weir.attempt.origin", "rpc.status_code");
    // A part of the budget of resets is kept, so that some are cancelled and some run out.
    expect(byCode["superseded OK"]).toBeGreaterThan(0);
    expect(byCode).toEqual({
      "remote OK": 3,
      "superseded OK": byCode["superseded OK"],
      "superseded CANCELLED": 3 - (byCode["superseded OK"] ?? 0),
    });
  });

  it("that a server refuses is counted by reason and priority, and takes no longer for it", async () => {
    const world = await open({
      client: { retry: false, breaker: false },
      server: { admission: { limit: 1, maxQueued: 0, streams: "together" } },
    });
    const first = world.start(method);
    await world.link.pass(1);
    const refused = await world.call(method, world.weir.with({}, { priority: "low" }));
    expect(refused.code).toBe(Status.RESOURCE_EXHAUSTED);
    await world.link.until(first.ended);
    const counted = await meters.points("weir.refusals");
    expect(counted).toEqual([
      {
        attributes: {
          "weir.side": "server",
          "weir.policy": "admission",
          "weir.reason": "LOAD_SHED",
          "weir.enforced": true,
          "weir.priority": "low",
        },
        value: 1,
        count: 1,
      },
    ]);
    expect(
      await meters.values("weir.calls", "weir.side", "weir.priority", "rpc.status_code"),
    ).toEqual({
      "client  OK": 1,
      "client low RESOURCE_EXHAUSTED": 1,
      "server normal OK": 1,
      "server low RESOURCE_EXHAUSTED": 1,
    });
  });

  it("that waits in the queue of a server is seen there, and its wait is measured", async () => {
    const world = await open({
      server: { admission: { limit: 1, maxQueued: 9, thresholds: false, streams: "together" } },
    });
    const running = [world.start(method), world.start(method), world.start(method)];
    await world.link.pass(1);
    expect(await meters.values("weir.queue.length", "weir.policy", "weir.priority")).toMatchObject({
      "admission critical": 0,
      "admission normal": 2,
    });
    expect(await meters.values("weir.admission.running", "weir.pool")).toEqual({ calls: 1 });
    await world.link.until(Promise.all(running.map(({ ended }) => ended)));
    const [wait] = await meters.points("weir.queue.wait");
    expect(wait).toMatchObject({
      attributes: {
        "weir.side": "server",
        "weir.policy": "admission",
        "weir.priority": "normal",
        "weir.enforced": true,
      },
      count: 2,
      value: expect.closeTo(0.06, 2),
    });
    expect(await meters.values("weir.admission.admitted", "weir.priority")).toMatchObject({
      normal: 3,
      low: 0,
    });
  });

  it("that waits in the queue of a client's bulkhead is seen there", async () => {
    const world = await open({ client: { bulkhead: { maxConcurrent: 1, maxQueued: 5 } } });
    const running = [world.start(method), world.start(method)];
    await world.link.pass(1);
    expect(await meters.values("weir.queue.length", "weir.side", "weir.priority")).toMatchObject({
      "client normal": 1,
    });
    expect(await meters.values("weir.bulkhead.running", "weir.side")).toEqual({ client: 1 });
    expect(await meters.values("weir.bulkhead.limit", "weir.side")).toEqual({ client: 1 });
    await world.link.until(Promise.all(running.map(({ ended }) => ended)));
    expect(await meters.values("weir.queue.wait", "weir.policy", "weir.side")).toEqual({
      "bulkhead client": 0.02,
    });
  });
});

describe("policies", () => {
  it("tell the state of a circuit breaker, and each change", async () => {
    const world = await open({
      client: { retry: false, breaker: { openMs: 1_000, openJitter: 0 } },
      handlers: handlers((call) => call.fail({ code: Status.UNAVAILABLE, details: "down" })),
    });
    const state = () => meters.values("weir.breaker.state");
    await world.call("unary");
    expect(await state()).toEqual({ "": 0 });
    for (let n = 0; n < 10; n += 1) await world.call("unary");
    expect(await state()).toEqual({ "": 2 });
    await world.link.pass(1_500);
    expect(await state()).toEqual({ "": 1 });
    expect(
      await meters.values("weir.breaker.transitions", "weir.breaker.from", "weir.breaker.to"),
    ).toEqual({ "closed open": 1, "open half-open": 1 });
    expect(Object.keys(await meters.values("weir.refusals", "weir.policy", "weir.reason"))).toEqual(
      ["breaker BREAKER_OPEN"],
    );
  });

  it("tell what is left of a retry budget", async () => {
    const world = await open({
      client: {
        breaker: false,
        retry: {
          idempotent: true,
          maxAttempts: 5,
          backoff: { baseMs: 1 },
          budget: { maxTokens: 4, minPerSecond: 1, ratio: 0.1, windowMs: 10_000 },
        },
      },
      handlers: handlers((call) => call.fail({ code: Status.UNAVAILABLE, details: "down" })),
    });
    await world.call("unary");
    expect(await meters.values("weir.retry.budget", "weir.budget")).toEqual({
      ratio: 9,
      tokens: 0,
    });
    expect(await meters.values("weir.decisions", "weir.reason")).toMatchObject({ RETRY_BUDGET: 1 });
  });

  it("tell the pressure by signal, the pressure of a brownout, and the share of a throttle", async () => {
    let pressure = 0.25;
    const world = await open({
      client: { retry: false, breaker: false, throttle: { minCalls: 1 } },
      server: {
        admission: { pressure: { signals: { pool: () => pressure } } },
        brownout: { optional: { extras: {} }, pressure: () => pressure / 2 },
      },
      handlers: handlers((call) => call.fail({ code: Status.RESOURCE_EXHAUSTED, details: "no" })),
    });
    for (let n = 0; n < 40; n += 1) await world.call("unary");
    pressure = 0.5;
    await world.link.pass(1_000);
    expect(await meters.values("weir.pressure", "weir.signal")).toMatchObject({
      pool: 0.5,
      cpu: 0,
    });
    expect(await meters.values("weir.brownout")).toEqual({ "": 0.25 });
    const { normal, critical } = await meters.values("weir.throttle.share", "weir.priority");
    expect(normal).toBeGreaterThan(0.3);
    expect(critical).toBe(0);
  });

  it("tell that a server drains", async () => {
    const world = await open({ client: { retry: false } });
    await world.call("unary");
    expect(await meters.values("weir.draining")).toEqual({ "": 0 });
    await world.weir.drain({
      tryShutdown: (done: () => void) => done(),
      forceShutdown() {},
    });
    expect(await meters.values("weir.draining")).toEqual({ "": 1 });
    await world.call("unary");
    expect(await meters.values("weir.refusals", "weir.policy", "weir.reason")).toEqual({
      "drain DRAINING": 1,
    });
  });

  it("that only observe are counted as such", async () => {
    const world = await open({
      server: { admission: { limit: 1, maxQueued: 0, mode: "observe" } },
    });
    const running = [world.start("unary"), world.start("unary")];
    await world.link.until(Promise.all(running.map(({ ended }) => ended)));
    expect(await meters.values("weir.refusals", "weir.policy", "weir.enforced")).toEqual({
      "admission false": 1,
    });
    expect(await meters.values("weir.calls", "weir.side", "rpc.status_code")).toMatchObject({
      "server OK": 2,
    });
  });

  it("that are off tell nothing", async () => {
    const world = await open({ server: { admission: { limit: 1, mode: "off" } } });
    await world.call("unary");
    expect(await meters.points("weir.admission.limit")).toEqual([]);
  });
});

describe("an answer of a handler that left something out", () => {
  it("is counted as degraded on the server", async () => {
    const world = await open({
      handlers: handlers((_call, answer) => {
        currentCall()?.degrade("extras");
        answer();
      }),
    });
    await world.call("unary");
    expect(await meters.values("weir.degraded", "weir.side", "rpc.method")).toEqual({
      [`server ${path.unary.slice(1)}`]: 1,
    });
  });
});

describe("an answer of a fallback", () => {
  it("is counted as degraded on the client, and the failure that it replaced as an attempt", async () => {
    const answer = { payload: Buffer.alloc(0), sequence: 0 };
    const world = await open({
      client: { retry: false, fallback: { providers: [value(() => answer, { name: "spare" })] } },
      handlers: handlers((call) => call.fail({ code: Status.UNAVAILABLE, details: "down" })),
    });
    expect((await world.call("unary")).code).toBe(Status.OK);
    expect(await meters.values("weir.degraded", "weir.side", "rpc.method")).toEqual({
      [`client ${path.unary.slice(1)}`]: 1,
    });
    expect(await meters.values("weir.attempts", "rpc.status_code")).toEqual({ UNAVAILABLE: 1 });
    expect(await meters.values("weir.decisions", "weir.policy", "weir.verdict")).toEqual({
      "fallback fallback": 1,
    });
  });
});

describe("a guard", () => {
  it("has its runs, refusals, queue and retries measured", async () => {
    const world = await open({});
    const { weir, clock } = world;
    const guard = weir.guard("db", {
      bulkhead: { maxConcurrent: 1, maxQueued: 1 },
      breaker: { openMs: 1_000 },
      retry: { maxAttempts: 2, backoff: { baseMs: 1 } },
    });
    const work = (ms: number, fail = false) =>
      guard.run(
        () =>
          new Promise<void>((resolve, reject) => {
            clock.schedule(ms, () => (fail ? reject(new Error("down")) : resolve()));
          }),
      );
    await world.link.until(work(1, true).catch(() => {}));
    const runs = Promise.allSettled([work(10), work(10), work(10)]);
    await world.link.pass(1);
    expect(await meters.values("weir.queue.length", "weir.side", "weir.priority")).toMatchObject({
      "guard normal": 1,
    });
    await world.link.until(runs);
    expect(await meters.values("weir.guard.runs", "weir.guard.name", "weir.outcome")).toEqual({
      "db succeeded": 2,
      "db failed": 1,
      "db rejected": 1,
    });
    expect(await meters.values("weir.refusals", "weir.side", "weir.policy", "weir.reason")).toEqual(
      {
        "guard bulkhead BULKHEAD_FULL": 1,
      },
    );
    expect(await meters.values("weir.queue.wait", "weir.side")).toEqual({ guard: 0.01 });
    expect(await meters.values("weir.breaker.state", "weir.breaker.key")).toMatchObject({ db: 0 });
    expect(
      await meters.values("weir.retry.budget", "weir.guard.name", "weir.budget"),
    ).toMatchObject({
      "db tokens": expect.any(Number),
    });
  });

  it("counts a run on the short way, without options, as any other", async () => {
    const { weir } = await open({});
    const guard = weir.guard("pool", { bulkhead: { maxConcurrent: 1, maxQueued: 0 } });
    let end: () => void = () => {};
    const first = guard.run(() => new Promise<void>((resolve) => (end = resolve)));
    await expect(guard.run(() => 1)).rejects.toThrow();
    end();
    await first;
    expect(await meters.values("weir.refusals", "weir.side", "weir.priority")).toEqual({
      "guard normal": 1,
    });
  });
});

describe("the durations of metrics and spans", () => {
  it.each(kinds)(
    "are the same for a %s call, on both sides and for its attempts",
    async (method) => {
      const tracing = startTracing();
      try {
        let readings = 0;
        const world = await open({ telemetry: { metricNames: "both" } }, 33);
        // Every reading is later than the one before: two readings for one moment would differ.
        const reading = world.clock.now.bind(world.clock);
        world.clock.now = () => {
          readings += 1;
          return reading() + readings / 1_000;
        };
        await world.call(method);
        await world.link.pass(1);
        const seconds = (spans: { readonly duration: readonly [number, number] }[]) =>
          spans.map(({ duration: [whole, nanos] }) => whole + nanos / 1e9);
        const measured = async (name: string) =>
          (await meters.points(name)).map(({ value }) => expect.closeTo(value, 6));
        expect(seconds(tracing.calls())).toEqual(await measured("rpc.client.call.duration"));
        expect(seconds(tracing.attempts())).toEqual(await measured("grpc.client.attempt.duration"));
        expect(seconds(tracing.servers())).toEqual(await measured("rpc.server.call.duration"));
      } finally {
        tracing.stop();
      }
    },
  );
});
