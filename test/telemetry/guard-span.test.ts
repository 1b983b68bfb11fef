import { context, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { AlwaysOffSampler, type ReadableSpan } from "@opentelemetry/sdk-trace-base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { createWeir, type WeirOptions } from "../../src/weir.js";
import { echo, scene } from "../scene.js";
import { decisionsOf, idOf, parentIdOf, startTracing, type TracingUnderTest } from "./tracing.js";

const never = () => new Promise<never>(() => {});

let tracing: TracingUnderTest;

beforeEach(() => {
  tracing = startTracing();
});

afterEach(() => {
  tracing.stop();
});

function runs(): ReadableSpan[] {
  return tracing.spans().filter(({ name }) => name.startsWith("Guard."));
}

function setup(options: WeirOptions = {}) {
  const clock = new VirtualClock();
  return { clock, weir: createWeir({ clock, random: () => 0.5, ...options }) };
}

function milliseconds([seconds, nanos]: readonly [number, number]): number {
  return seconds * 1_000 + nanos / 1e6;
}

describe("the span of a guarded run", () => {
  it("stands below what is active, covers the attempts, and has what the work does below it", async () => {
    const { clock, weir } = setup();
    const guard = weir.guard("db", { retry: { backoff: { baseMs: 100, jitter: "none" } } });
    const tracer = trace.getTracer("user");
    let calls = 0;
    await tracer.startActiveSpan("outer", async (outer) => {
      const run = guard.run(
        async () => {
          tracer.startSpan("query").end();
          calls += 1;
          if (calls === 1) throw new TypeError("down");
        },
        { key: "eu", priority: "high" },
      );
      await clock.until(run);
      outer.end();
    });
    const [run] = runs();
    const [first, second] = tracing.attempts();
    const spans = tracing.spans();
    const queries = spans.filter(({ name }) => name === "query");
    expect(run).toMatchObject({ name: "Guard.db", kind: SpanKind.INTERNAL });
    expect(parentIdOf(run)).toBe(idOf(spans.find(({ name }) => name === "outer")));
    expect([first, second].map(parentIdOf)).toEqual([idOf(run), idOf(run)]);
    expect(queries.map(parentIdOf)).toEqual([idOf(first), idOf(second)]);
    expect(run?.attributes).toEqual({
      "weir.guard.name": "db",
      "weir.guard.key": "eu",
      "weir.call.priority": "high",
      "weir.call.attempts": 2,
    });
    expect(run?.status.code).toBe(SpanStatusCode.UNSET);
    expect(decisionsOf(run)).toEqual(["retry retry"]);
    expect(first?.attributes).toEqual({
      "weir.guard.name": "db",
      "weir.attempt.number": 1,
      "weir.attempt.cause": "first",
      "error.type": "TypeError",
    });
    expect(first?.status).toEqual({ code: SpanStatusCode.ERROR, message: "down" });
    expect(second?.attributes).toMatchObject({
      "weir.attempt.number": 2,
      "weir.attempt.cause": "retry",
      "weir.attempt.delay_ms": 100,
    });
    expect(second?.kind).toBe(SpanKind.INTERNAL);
    if (run === undefined) throw new Error("no span");
    expect(milliseconds(run.endTime) - milliseconds(run.startTime)).toBeCloseTo(100, 3);
    expect(tracing.open()).toEqual([]);
  });

  it("says why a run was refused, without an attempt", async () => {
    const { weir } = setup();
    const guard = weir.guard("db", { bulkhead: { maxConcurrent: 1, maxQueued: 0 } });
    guard.run(never).catch(() => {});
    await guard.run(never).catch(() => {});
    const [run] = runs();
    expect(run?.attributes).toMatchObject({
      "weir.call.attempts": 0,
      "weir.rejection.reason": "BULKHEAD_FULL",
      "weir.rejection.local": true,
      "error.type": "RESOURCE_EXHAUSTED",
    });
    expect(run?.status.code).toBe(SpanStatusCode.ERROR);
    expect(decisionsOf(run)).toEqual(["bulkhead reject BULKHEAD_FULL"]);
    expect(tracing.attempts()).toEqual([]);
  });

  it("ends with the run, and so does that of an attempt whose work hangs", async () => {
    const { clock, weir } = setup();
    const guard = weir.guard("db", { timeouts: { totalMs: 50 } });
    await clock.until(guard.run(never).catch(() => {}));
    expect(tracing.open()).toEqual([]);
    const [attempt] = tracing.attempts();
    expect(attempt?.attributes).toMatchObject({
      "weir.rejection.reason": "WORK_TIMEOUT",
      "error.type": "DEADLINE_EXCEEDED",
    });
  });

  it("covers the fallback, and is no error when that had an answer", async () => {
    const { clock, weir } = setup();
    const guard = weir.guard("db", {
      fallback: { answer: () => new Promise((resolve) => clock.schedule(30, () => resolve(1))) },
    });
    await clock.until(guard.run(() => Promise.reject(new Error("down"))));
    const [run] = runs();
    expect(run?.status.code).toBe(SpanStatusCode.UNSET);
    expect(decisionsOf(run)).toEqual(["fallback fallback"]);
    if (run === undefined) throw new Error("no span");
    expect(milliseconds(run.endTime) - milliseconds(run.startTime)).toBeCloseTo(30, 3);
  });

  it("of a handler's run stands below the span of its call, which has the decisions too", async () => {
    const made = await scene({
      client: { retry: false },
      server: {},
      handlers: {
        ...echo,
        unary: (call, callback) => {
          guard.run(never).then(
            () => callback(null, call.request),
            (error: Error) => callback(error),
          );
        },
      },
    });
    const guard = made.weir.guard("db", { timeouts: { totalMs: 50 } });
    await made.call("unary");
    const [server] = tracing.servers();
    const [run] = runs();
    expect(parentIdOf(run)).toBe(idOf(server));
    expect(decisionsOf(server)).toEqual(["timeouts expire WORK_TIMEOUT"]);
    expect(server?.events[0]?.attributes?.["weir.decision.detail"]).toBe(
      "db: no result within 50 ms",
    );
    expect(decisionsOf(run)).toEqual(["timeouts expire WORK_TIMEOUT"]);
  });
});

describe("where nobody records", () => {
  it("no span is made without an SDK, and one that is registered later is found", async () => {
    tracing.stop();
    const { weir } = setup();
    const guard = weir.guard("db", {});
    await guard.run(() => 1);
    expect(runs()).toEqual([]);
    tracing = startTracing();
    await guard.run(() => 1);
    expect(runs()).toHaveLength(1);
  });

  it("none is made with tracing: false", async () => {
    const { weir } = setup({ telemetry: { tracing: false } });
    await weir.guard("db", {}).run(() => 1);
    expect(runs()).toEqual([]);
  });

  it("the work learns that its run was not sampled", async () => {
    tracing.stop();
    tracing = startTracing({ sampler: new AlwaysOffSampler() });
    const { weir } = setup();
    const ids = new Set<string | undefined>();
    const guard = weir.guard("db", {});
    await guard.run(() => ids.add(trace.getSpanContext(context.active())?.traceId));
    expect([...ids][0]).toMatch(/^[0-9a-f]{32}$/);
    expect(tracing.spans()).toEqual([]);
  });

  it("an SDK that throws costs the run its span, and nothing else", async () => {
    const errors: unknown[] = [];
    const { weir } = setup({
      onError: (error) => errors.push(error),
      telemetry: {
        tracerProvider: {
          getTracer: () => ({
            startSpan() {
              throw new Error("a broken SDK");
            },
            startActiveSpan() {
              throw new Error("a broken SDK");
            },
          }),
        },
      },
    });
    expect(await weir.guard("db", {}).run(() => 1)).toBe(1);
    expect(errors).toHaveLength(1);
  });
});
