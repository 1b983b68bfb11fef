import { Metadata, status as Status } from "@grpc/grpc-js";
import { SpanKind } from "@opentelemetry/api";
import { AlwaysOffSampler, type ReadableSpan } from "@opentelemetry/sdk-trace-base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Clock } from "../../src/core/clock.js";
import type { ServerCall, ServerCallListener } from "../../src/grpc/types.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { createWeir } from "../../src/weir.js";
import { failing, handlers, kinds, type Scene, type SceneOptions, scene } from "../scene.js";
import { idOf, parentIdOf, startTracing, type TracingUnderTest } from "./tracing.js";

let tracing: TracingUnderTest;

beforeEach(() => {
  tracing = startTracing();
});

afterEach(() => {
  expect(tracing.open()).toEqual([]);
  tracing.stop();
});

function waits(): ReadableSpan[] {
  return tracing.spans().filter(({ name }) => name.startsWith("wait: "));
}

function ms([seconds, nanos]: readonly [number, number]): number {
  return seconds * 1_000 + nanos / 1e6;
}

/** When it began, from the start of the other span, and how long it took, in whole milliseconds. */
function within(span: ReadableSpan | undefined, outer: ReadableSpan | undefined) {
  if (span === undefined || outer === undefined) throw new Error("there is no such span");
  return {
    from: Math.round(ms(span.startTime) - ms(outer.startTime)),
    took: Math.round(ms(span.duration)),
  };
}

const unaryMethod = {
  path: "/a.B/Unary",
  requestStream: false,
  responseStream: false,
  requestDeserialize: (bytes: Buffer) => bytes,
  responseSerialize: (bytes: Buffer) => bytes,
};

/** The call of grpc-js, as far as a call without an answer needs it. */
function wireCall(started: (listener: ServerCallListener) => void): ServerCall {
  return {
    start: started,
    sendMetadata() {},
    sendMessage: (_message, callback) => callback(),
    sendStatus() {},
    startRead() {},
    getDeadline: () => Number.POSITIVE_INFINITY,
    getPeer: () => "127.0.0.1:1",
    getHost: () => "localhost",
    getAuthContext: () => ({}),
    getConnectionInfo: () => ({}),
    getMetricsRecorder() {
      throw new Error("a stub has no metrics");
    },
  };
}

/** A server whose handlers take so long. */
async function taking(handlerMs: number, options: SceneOptions): Promise<Scene> {
  const world: Scene = await scene({
    ...options,
    handlers: handlers((_call, answer) => world.clock.schedule(handlerMs, answer)),
  });
  return world;
}

const steady = { backoff: { baseMs: 100, jitter: "none" } } as const;
const one = { maxConcurrent: 1, maxQueued: 10, maxWaitMs: 10_000 } as const;
const crowd = { limit: 1, maxQueued: 10, streams: "together" } as const;

describe.each(kinds)("a %s call", (method) => {
  it("that waits in the queue of a bulkhead has the wait as a span, beside its attempt", async () => {
    const world = await taking(30, { client: { bulkhead: one } });
    const first = world.start(method);
    const second = world.start(method);
    await world.link.until(Promise.all([first.ended, second.ended]));
    const [wait, ...others] = waits();
    const [, call] = tracing.calls();
    expect(others).toEqual([]);
    expect(wait).toMatchObject({ name: "wait: queue", kind: SpanKind.INTERNAL });
    expect(wait?.attributes).toEqual({
      "weir.wait.kind": "queue",
      "weir.wait.policy": "bulkhead",
    });
    expect(parentIdOf(wait)).toBe(idOf(call));
    expect(within(wait, call)).toEqual({ from: 0, took: 30 });
    expect(within(tracing.attempts()[1], call).from).toBe(30);
  });

  it("that waits for tokens of a rate has that wait", async () => {
    const rate = { ratePerSecond: 10, burst: 1, maxWaitMs: 1_000 } as const;
    const world = await taking(0, { client: { rate } });
    await world.call(method);
    await world.call(method);
    expect(waits().map(({ attributes }) => attributes["weir.wait.policy"])).toEqual(["rate"]);
    expect(within(waits()[0], tracing.calls()[1]).took).toBeGreaterThan(50);
  });

  it("that never leaves a queue has the wait up to its end", async () => {
    const world = await taking(500, { client: { bulkhead: one } });
    const first = world.start(method);
    const second = world.start(method, { deadline: world.clock.wallNow() + 80 });
    const third = world.start(method);
    await world.link.pass(20);
    third.cancel();
    await world.link.until(Promise.all([first.ended, second.ended, third.ended]));
    const [cancelled, late] = waits();
    const byId = new Map(tracing.calls().map((call) => [idOf(call), call]));
    expect(within(cancelled, byId.get(parentIdOf(cancelled)))).toEqual({ from: 0, took: 20 });
    expect(within(late, byId.get(parentIdOf(late)))).toEqual({ from: 0, took: 80 });
  });

  it("that waits on a server has the wait below the span of the server", async () => {
    const world = await taking(30, { server: { admission: crowd } });
    const first = world.start(method);
    const second = world.start(method);
    await world.link.until(Promise.all([first.ended, second.ended]));
    const [wait, ...others] = waits();
    const server = tracing.servers().find((span) => idOf(span) === parentIdOf(wait));
    expect(others).toEqual([]);
    expect(wait?.attributes).toEqual({
      "weir.wait.kind": "queue",
      "weir.wait.policy": "admission",
    });
    expect(within(wait, server)).toEqual({ from: 0, took: 30 });
  });

  it("that is retried has the backoff, from the failure to the next attempt", async () => {
    const world = await scene({
      handlers: failing(1).handlers,
      client: { retry: { ...steady, idempotent: true } },
      network: { latencyMs: 2 },
    });
    expect((await world.call(method)).code).toBe(Status.OK);
    const [cold, wait, ...others] = waits();
    const [call] = tracing.calls();
    const [first, second] = tracing.attempts();
    expect(cold?.name).toBe("wait: connection");
    expect(others).toEqual([]);
    expect(wait?.attributes).toEqual({
      "weir.wait.kind": "backoff",
      "weir.wait.policy": "retry",
    });
    expect(parentIdOf(wait)).toBe(idOf(call));
    const { from, took } = within(wait, call);
    expect(took).toBe(100);
    expect(from).toBe(within(first, call).from + within(first, call).took);
    expect(from + took).toBe(within(second, call).from);
  });

  it("that is cancelled in its backoff has the part that it waited", async () => {
    const world = await scene({ handlers: failing(9).handlers, client: { retry: steady } });
    const running = world.start(method);
    await world.link.pass(40);
    running.cancel();
    await world.link.until(running.ended);
    const [wait, ...others] = waits();
    expect(others).toEqual([]);
    expect(within(wait, tracing.calls()[0]).took).toBeGreaterThanOrEqual(39);
    expect(within(wait, tracing.calls()[0]).took).toBeLessThanOrEqual(40);
  });

  it("that is hedged has no wait: its first attempt runs", async () => {
    const world = await taking(80, {
      client: { retry: { idempotent: true }, hedge: { delayMs: 50 } },
    });
    expect((await world.call(method)).code).toBe(Status.OK);
    await world.link.pass(200);
    expect(tracing.attempts()).toHaveLength(2);
    expect(waits()).toEqual([]);
  });

  it("whose server has gone has the wait for a connection before its retry", async () => {
    const world = await scene({ client: { breaker: false } });
    await world.call(method);
    world.transport.server.crash();
    await world.link.pass(10);
    const running = world.start(method, { deadline: world.clock.wallNow() + 9_000 });
    await world.link.pass(1_000);
    world.transport.server.start();
    expect((await world.link.until(running.ended, 1e6)).code).toBe(Status.OK);
    const call = tracing.calls()[1];
    const told = waits().map((wait) => [wait.name, parentIdOf(wait)]);
    expect(told).toContainEqual(["wait: connection", idOf(call)]);
    const longest = Math.max(...waits().map((wait) => within(wait, call).took));
    expect(longest).toBeGreaterThan(800);
    const last = tracing.attempts().at(-1);
    const connected = waits().findLast(({ name }) => name === "wait: connection");
    const { from, took } = within(connected, call);
    expect(from + took).toBeLessThanOrEqual(within(last, call).from);
  });

  it("on a cold channel has the wait for its connection, in its first attempt", async () => {
    const world = await scene({ network: { latencyMs: 5 } });
    await world.call(method);
    await world.call(method);
    const [wait, ...others] = waits();
    const [call] = tracing.calls();
    expect(others).toEqual([]);
    expect(wait?.attributes).toEqual({ "weir.wait.kind": "connection" });
    expect(parentIdOf(wait)).toBe(idOf(call));
    const { from, took } = within(wait, call);
    expect([from, took]).toEqual([0, expect.any(Number)]);
    expect(took).toBeGreaterThanOrEqual(5);
    expect(took).toBeLessThan(within(tracing.attempts()[0], call).took);
  });

  it("that waits for no time at all has no such span, and neither has one that is only observed", async () => {
    const client = { bulkhead: { ...one, mode: "observe" } } as const;
    const server = { admission: { ...crowd, mode: "observe" } } as const;
    const world = await taking(30, { client, server });
    const running = [world.start(method), world.start(method)];
    await world.link.until(Promise.all(running.map(({ ended }) => ended)));
    expect(tracing.calls()).toHaveLength(2);
    expect(waits()).toEqual([]);
  });

  it("that is not recorded has none", async () => {
    tracing.stop();
    tracing = startTracing({ sampler: new AlwaysOffSampler() });
    const world = await taking(30, { client: { bulkhead: one }, server: { admission: crowd } });
    const running = [world.start(method), world.start(method)];
    await world.link.until(Promise.all(running.map(({ ended }) => ended)));
    expect(tracing.spans()).toEqual([]);
  });
});

describe("the event loop of a server", () => {
  /** A call of grpc-js whose request arrives when it is told. */
  function arriving(turns: (() => void)[], requestStream = false) {
    let nowMs = 1_000;
    const clock: Clock = {
      now: () => nowMs,
      wallNow: () => 1_750_000_000_000 + nowMs,
      schedule: () => () => {},
      afterPoll(task) {
        turns.push(task);
        return () => {};
      },
    };
    const weir = createWeir({ clock });
    const { interceptors = [] } = weir.server({ admission: { pressure: false } });
    const method = { ...unaryMethod, requestStream };
    let listener: ServerCallListener | undefined;
    const wire = wireCall((given) => {
      listener = given;
    });
    let call: ServerCall = wire;
    for (const interceptor of interceptors) call = interceptor(method, call);
    call.start({
      onReceiveMetadata: () => call.startRead(),
      onReceiveMessage: () => call.startRead(),
      onReceiveHalfClose: () => call.sendStatus({ code: Status.OK, details: "", metadata: null }),
      onCancel() {},
    });
    listener?.onReceiveMetadata(new Metadata());
    return {
      pass: (ms: number) => {
        nowMs += ms;
      },
      nextTurn: () => {
        for (const task of turns.splice(0)) task();
      },
      request: () => {
        listener?.onReceiveMessage(Buffer.alloc(1));
        listener?.onReceiveHalfClose();
        listener?.onCancel();
      },
    };
  }

  it("is a wait where the request was here from the start, and other work came before it", () => {
    const { pass, request } = arriving([]);
    pass(25);
    request();
    const [server] = tracing.servers();
    const [wait, ...others] = waits();
    expect(others).toEqual([]);
    expect(wait?.name).toBe("wait: event loop");
    expect(wait?.attributes).toEqual({ "weir.wait.kind": "event_loop" });
    expect(parentIdOf(wait)).toBe(idOf(server));
    expect(within(wait, server)).toEqual({ from: 0, took: 25 });
  });

  it("is none where the request came in a later turn: that may have been the network", () => {
    const { pass, nextTurn, request } = arriving([]);
    pass(25);
    nextTurn();
    request();
    expect(tracing.servers()).toHaveLength(1);
    expect(waits()).toEqual([]);
  });

  it("is none for a streamed request, whose handler starts without it", () => {
    const { pass, request } = arriving([], true);
    pass(25);
    request();
    expect(tracing.servers()).toHaveLength(1);
    expect(waits()).toEqual([]);
  });
});

describe("a guarded run", () => {
  it("has its waits in the queue and between attempts", async () => {
    const clock = new VirtualClock();
    const weir = createWeir({ clock });
    const guard = weir.guard("db", { bulkhead: one, retry: steady });
    let calls = 0;
    const work = async () => {
      calls += 1;
      if (calls === 1) throw new TypeError("down");
      await new Promise<void>((resolve) => clock.schedule(20, resolve));
    };
    await clock.until(Promise.all([guard.run(work), guard.run(work)]));
    const runs = tracing.spans().filter(({ name }) => name === "Guard.db");
    const told = waits().map((wait) => {
      const run = runs.find((each) => idOf(each) === parentIdOf(wait));
      return [wait.name, wait.attributes["weir.wait.policy"], within(wait, run).took];
    });
    expect(told).toEqual([["wait: backoff", "retry", 100]]);
    await clock.until(Promise.all([guard.run(work), guard.run(work)]));
    expect(within(waits()[1], tracing.spans().at(-1))).toEqual({ from: 0, took: 20 });
    expect(waits()[1]?.attributes["weir.wait.policy"]).toBe("bulkhead");
  });
});
