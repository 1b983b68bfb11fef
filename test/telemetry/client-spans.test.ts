import { Metadata, type ServiceError, status as Status } from "@grpc/grpc-js";
import { context, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { AlwaysOffSampler } from "@opentelemetry/sdk-trace-base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import type { Transport } from "../../src/testing/transport.js";
import { transports } from "../transports.js";
import { type Handlers, kinds, openScene, type Scene, type SceneOptions, unary } from "./scene.js";
import { decisionsOf, idOf, parentIdOf, startTracing, type TracingUnderTest } from "./tracing.js";

const method = "weir.v1.ConformanceService/Unary";

let tracing: TracingUnderTest;
const scenes: Scene[] = [];

async function open(transport: Transport, options?: SceneOptions): Promise<Scene> {
  const scene = await openScene(transport, options);
  scenes.push(scene);
  return scene;
}

beforeEach(() => {
  tracing = startTracing();
});

afterEach(async () => {
  for (const scene of scenes.splice(0)) await scene.link.close();
  expect(tracing.open()).toEqual([]);
  tracing.stop();
});

/** Fails with these codes, one after another, and is well from then on. */
function failing(...codes: Status[]): Handlers {
  return {
    unary: (_call, callback) => {
      const code = codes.shift();
      if (code === undefined) callback(null, { payload: Buffer.alloc(0), sequence: 1 });
      else callback({ code, details: "not now" });
    },
  };
}

describe.each(transports)("%s", (_way, makeTransport) => {
  it.each(Object.entries(kinds))(
    "a %s call has one span, and one for its attempt",
    async (kind, run) => {
      const scene = await open(makeTransport());
      expect(await scene.link.until(run(scene))).toBe("OK");
      const [call, ...otherCalls] = tracing.calls();
      const [attempt, ...otherAttempts] = tracing.attempts();
      expect([...otherCalls, ...otherAttempts]).toEqual([]);
      expect(call?.name).toBe(`weir.v1.ConformanceService/${kind}`);
      expect(attempt?.name).toBe(`Attempt.weir.v1.ConformanceService.${kind}`);
      expect(call?.kind).toBe(SpanKind.CLIENT);
      expect(attempt?.kind).toBe(SpanKind.CLIENT);
      expect(parentIdOf(call)).toBeUndefined();
      expect(parentIdOf(attempt)).toBe(idOf(call));
      expect(call?.status).toEqual({ code: SpanStatusCode.UNSET });
      expect(attempt?.status).toEqual({ code: SpanStatusCode.UNSET });
    },
  );

  it("a call that is tried again has its attempts under one span, which say why they were made", async () => {
    const scene = await open(makeTransport(), { handlers: failing(Status.UNAVAILABLE) });
    expect(await scene.link.until(unary(scene))).toBe("OK");
    const [call] = tracing.calls();
    const [first, second] = tracing.attempts();
    expect(tracing.attempts().map(parentIdOf)).toEqual([idOf(call), idOf(call)]);
    expect(call?.status.code).toBe(SpanStatusCode.UNSET);
    expect(call?.attributes).toMatchObject({ "weir.call.attempts": 2, "rpc.status_code": "OK" });
    expect(decisionsOf(call)).toEqual(["retry retry"]);
    const { attributes: told = {} } = call?.events[0] ?? {};
    expect(told["weir.decision.detail"]).toMatch(/^retry after UNAVAILABLE \(remote\), [\d.]+ ms$/);
    expect(String(told["weir.decision.wait_ms"])).toMatch(/^\d+(\.\d{1,3})?$/);
    expect(first?.attributes).toMatchObject({
      "previous-rpc-attempts": 0,
      "transparent-retry": false,
      "weir.attempt.number": 1,
      "weir.attempt.cause": "first",
      "weir.attempt.origin": "remote",
      "rpc.status_code": "UNAVAILABLE",
      "error.type": "UNAVAILABLE",
    });
    expect(first?.attributes).not.toHaveProperty("weir.attempt.after");
    expect(first?.attributes).not.toHaveProperty("weir.attempt.delay_ms");
    expect(first?.status).toEqual({ code: SpanStatusCode.ERROR, message: "not now" });
    expect(second?.attributes).toMatchObject({
      "previous-rpc-attempts": 1,
      "transparent-retry": false,
      "weir.attempt.number": 2,
      "weir.attempt.cause": "retry",
      "weir.attempt.after": "UNAVAILABLE",
      "weir.attempt.delay_ms": call?.events[0]?.attributes?.["weir.decision.wait_ms"],
      "weir.attempt.origin": "remote",
      "rpc.status_code": "OK",
    });
    expect(second?.attributes).not.toHaveProperty("error.type");
  });

  it("a failed call says in its span what the application is told", async () => {
    const scene = await open(makeTransport(), { handlers: failing(Status.NOT_FOUND) });
    expect(await scene.link.until(unary(scene))).toBe("NOT_FOUND");
    const [call] = tracing.calls();
    expect(call?.status).toEqual({ code: SpanStatusCode.ERROR, message: "not now" });
    expect(call?.attributes).toMatchObject({
      "rpc.status_code": "NOT_FOUND",
      "error.type": "NOT_FOUND",
    });
  });

  it("an error behind headers is the server's word", async () => {
    const scene = await open(makeTransport(), {
      handlers: {
        unary: (call, callback) => {
          call.sendMetadata(new Metadata());
          callback({ code: Status.NOT_FOUND, details: "nothing there" });
        },
      },
    });
    await scene.link.until(unary(scene));
    expect(tracing.attempts()[0]?.attributes["weir.attempt.origin"]).toBe("remote");
  });

  it("names the method, the server that was asked for and the one that answered", async () => {
    const scene = await open(makeTransport());
    await scene.link.until(unary(scene));
    const [, , port] = scene.client.getChannel().getTarget().split(":");
    expect(tracing.calls()[0]?.attributes).toMatchObject({
      "rpc.system.name": "grpc",
      "rpc.method": method,
      "server.address": "127.0.0.1",
      "server.port": Number(port),
      "network.peer.address": "127.0.0.1",
      "network.peer.port": Number(port),
    });
    expect(tracing.attempts()[0]?.attributes).toMatchObject({
      "rpc.system.name": "grpc",
      "rpc.method": method,
      "network.peer.address": "127.0.0.1",
      "network.peer.port": Number(port),
    });
  });

  it("stands under the span that was active when the call was made, however many run at once", async () => {
    const scene = await open(makeTransport(), {
      handlers: failing(...Array.from({ length: 4 }, () => Status.UNAVAILABLE)),
    });
    const parents = ["a", "b", "c", "d"].map((name) => trace.getTracer("app").startSpan(name));
    await scene.link.until(
      Promise.all(
        parents.map((parent) =>
          context.with(trace.setSpan(context.active(), parent), () => unary(scene)),
        ),
      ),
    );
    for (const parent of parents) parent.end();
    const calls = tracing.calls();
    expect(new Set(calls.map(parentIdOf))).toEqual(
      new Set(parents.map((parent) => parent.spanContext().spanId)),
    );
    for (const attempt of tracing.attempts()) {
      const call = calls.find((each) => idOf(each) === parentIdOf(attempt));
      expect(attempt.spanContext().traceId).toBe(call?.spanContext().traceId);
    }
    expect(tracing.attempts()).toHaveLength(8);
  });

  it("says the priority and the deadline of the call", async () => {
    const transport = makeTransport();
    const scene = await open(transport);
    const metadata = new Metadata();
    metadata.set("x-request-priority", "high");
    await scene.link.until(unary(scene, { metadata, deadlineIn: 5_000 }, transport.clock));
    const attributes = tracing.calls()[0]?.attributes;
    expect(attributes).toMatchObject({ "weir.call.priority": "high" });
    const deadlineMs = Number(attributes?.["weir.call.deadline_ms"]);
    expect(Math.abs(deadlineMs - 5_000)).toBeLessThan(1_000);
  });

  it("an attempt that a policy refuses has no span; its call says why and by whom", async () => {
    const transport = makeTransport();
    const answer = { payload: Buffer.alloc(0), sequence: 1 };
    const scene = await open(transport, {
      bulkhead: { maxConcurrent: 1, maxQueued: 0 },
      handlers: {
        unary: (_call, callback) => {
          transport.clock.schedule(100, () => callback(null, answer));
        },
      },
    });
    const both = await scene.link.until(Promise.all([unary(scene), unary(scene)]));
    expect(both).toEqual(["OK", "RESOURCE_EXHAUSTED"]);
    expect(tracing.attempts()).toHaveLength(1);
    const refused = tracing.calls().find((call) => call.attributes["error.type"] !== undefined);
    expect(refused?.attributes).toMatchObject({
      "rpc.status_code": "RESOURCE_EXHAUSTED",
      "weir.rejection.reason": "BULKHEAD_FULL",
      "weir.rejection.local": true,
      "weir.call.attempts": 1,
    });
    expect(decisionsOf(refused)).toEqual(["bulkhead reject BULKHEAD_FULL"]);
    expect(refused?.events[0]?.attributes).toMatchObject({ "weir.decision.enforced": true });
    expect(refused?.events[0]?.attributes?.["weir.decision.detail"]).toContain("1 of 1");
  });

  it("a call that a server refused says why, and that it was the server", async () => {
    const scene = await open(makeTransport(), {
      maxAttempts: 1,
      server: { deadlineGuard: { minRemainingMs: 60_000 } },
    });
    const clock = scene.environment.clock;
    await scene.link.until(unary(scene, { deadlineIn: 2_000 }, clock));
    expect(tracing.calls()[0]?.attributes).toMatchObject({
      "rpc.status_code": "DEADLINE_EXCEEDED",
      "weir.rejection.reason": "DEADLINE_INFEASIBLE",
      "weir.rejection.local": false,
    });
  });

  it("leaves the caller's metadata alone, and replaces a context that is in it", async () => {
    const received: unknown[] = [];
    const scene = await open(makeTransport(), {
      handlers: {
        unary: (call, callback) => {
          received.push(call.metadata.get("traceparent"));
          callback(null, { payload: Buffer.alloc(0), sequence: 1 });
        },
      },
    });
    const metadata = new Metadata();
    const stale = "00-11111111111111111111111111111111-2222222222222222-01";
    metadata.set("traceparent", stale);
    await scene.link.until(unary(scene, { metadata }));
    const sent = tracing.attempts()[0]?.spanContext();
    expect(received).toEqual([[`00-${sent?.traceId}-${sent?.spanId}-01`]]);
    expect(metadata.get("traceparent")).toEqual([stale]);
  });
});

describe("under virtual time", () => {
  it("spans and their decisions have the times of the clock that was handed in", async () => {
    const transport = inMemoryTransport({ network: { latencyMs: () => 10 } });
    const { clock } = transport;
    const scene = await open(transport, { handlers: failing(Status.UNAVAILABLE) });
    const startMs = clock.wallNow();
    await scene.link.until(unary(scene));
    const endMs = clock.wallNow();
    const ms = ([seconds, nanos]: readonly [number, number]) => seconds * 1000 + nanos / 1e6;
    const [call] = tracing.calls();
    const [first, second] = tracing.attempts();
    if (call === undefined || first === undefined || second === undefined) throw new Error("spans");
    const waited = Number(second.attributes["weir.attempt.delay_ms"]);
    expect(ms(call.startTime)).toBeCloseTo(startMs, 2);
    expect(ms(call.endTime)).toBeCloseTo(endMs, 2);
    expect(ms(first.startTime)).toBeCloseTo(startMs, 2);
    expect(ms(second.startTime) - ms(first.endTime)).toBeCloseTo(waited, 2);
    expect(ms(call.events[0]?.time ?? [0, 0])).toBeCloseTo(ms(first.endTime), 2);
  });

  it("an attempt that waited in a queue starts when it goes on the wire", async () => {
    const transport = inMemoryTransport({ network: { latencyMs: () => 10 } });
    const scene = await open(transport, { bulkhead: { maxConcurrent: 1, maxQueued: 1 } });
    await scene.link.until(Promise.all([unary(scene), unary(scene)]));
    const [first, second] = tracing.attempts();
    expect(second?.startTime).toEqual(first?.endTime);
    expect(tracing.calls()[1]?.startTime).toEqual(tracing.calls()[0]?.startTime);
    expect(decisionsOf(tracing.calls()[1])).toEqual(["bulkhead queue"]);
  });
});

describe("a call that is not sampled", () => {
  it("tells the server so, and records nothing", async () => {
    tracing.stop();
    tracing = startTracing({ sampler: new AlwaysOffSampler() });
    const received: string[] = [];
    const scene = await open(inMemoryTransport(), {
      handlers: {
        unary: (call, callback) => {
          received.push(String(call.metadata.get("traceparent")[0]));
          const error: Partial<ServiceError> = { code: Status.UNAVAILABLE, details: "not now" };
          callback(error);
        },
      },
      maxAttempts: 2,
    });
    expect(await scene.link.until(unary(scene))).toBe("UNAVAILABLE");
    expect(received).toHaveLength(2);
    expect(new Set(received).size).toBe(1);
    expect(received[0]).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
    expect(tracing.spans()).toEqual([]);
  });
});
