import { Metadata, Server } from "@grpc/grpc-js";
import { context, propagation, ROOT_CONTEXT, SpanKind, trace } from "@opentelemetry/api";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { metadataGetter } from "../../src/telemetry/tracing.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { openScene, type Scene, type SceneOptions, unary } from "./scene.js";
import { decisionsOf, idOf, parentIdOf, startTracing, type TracingUnderTest } from "./tracing.js";

const scope = "@opentelemetry/instrumentation-grpc";
const path = "weir.v1.ConformanceService/Unary";

let tracing: TracingUnderTest;
const scenes: Scene[] = [];

async function open(options?: SceneOptions): Promise<Scene> {
  const scene = await openScene(inMemoryTransport(), options);
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

/** Makes a call as the instrumentation has it made: inside a span of its own, which ends when the call has. */
async function instrumented<T>(name: string, kind: SpanKind, run: () => Promise<T>): Promise<T> {
  const span = trace.getTracer(scope).startSpan(name, { kind });
  try {
    return await context.with(trace.setSpan(context.active(), span), run);
  } finally {
    span.end();
  }
}

const theirs = () => tracing.spans().filter((span) => span.instrumentationScope.name === scope);

describe("where OpenTelemetry's own instrumentation is at work", () => {
  it("its span is the call span: it is told of the decisions, and has the attempts below", async () => {
    let failures = 1;
    const scene = await open({
      handlers: {
        unary: (_call, callback) => {
          failures -= 1;
          if (failures >= 0) callback({ code: 14, details: "not now" });
          else callback(null, { payload: Buffer.alloc(0), sequence: 1 });
        },
      },
    });
    const metadata = new Metadata();
    metadata.set("x-request-priority", "low");
    await instrumented(`grpc.${path}`, SpanKind.CLIENT, () =>
      scene.link.until(unary(scene, { metadata })),
    );
    expect(tracing.calls()).toEqual([]);
    const [adopted, ...others] = theirs();
    expect(others).toEqual([]);
    expect(adopted?.name).toBe(`grpc.${path}`);
    expect(decisionsOf(adopted)).toEqual(["retry retry"]);
    expect(adopted?.attributes).toEqual({
      "weir.call.attempts": 2,
      "weir.call.priority": "low",
    });
    expect(tracing.attempts().map(parentIdOf)).toEqual([idOf(adopted), idOf(adopted)]);
  });

  it("its span is left to it to end and to fail", async () => {
    const scene = await open({
      handlers: { unary: (_call, callback) => callback({ code: 5, details: "nothing there" }) },
    });
    let endedBefore: unknown[] = ["?"];
    await instrumented(`grpc.${path}`, SpanKind.CLIENT, async () => {
      await scene.link.until(unary(scene));
      endedBefore = theirs();
    });
    expect(endedBefore).toEqual([]);
    expect(theirs()[0]?.status).toEqual({ code: 0 });
  });

  it.each([
    ["a span of its server side", `grpc.${path}`, SpanKind.SERVER],
    [
      "the span of another call, for which an interceptor makes this one",
      "grpc.a.B/C",
      SpanKind.CLIENT,
    ],
  ])("%s is not taken for the call span", async (_what, name, kind) => {
    const scene = await open();
    await instrumented(name, kind, () => scene.link.until(unary(scene)));
    const [call] = tracing.calls();
    expect(parentIdOf(call)).toBe(idOf(theirs()[0]));
    expect(parentIdOf(tracing.attempts()[0])).toBe(idOf(call));
    expect(theirs()[0]?.attributes).toEqual({});
  });

  it("a span of the application's own is not taken for the call span", async () => {
    const scene = await open();
    const span = trace.getTracer("app").startSpan(`grpc.${path}`, { kind: SpanKind.CLIENT });
    await context.with(trace.setSpan(context.active(), span), () => scene.link.until(unary(scene)));
    span.end();
    expect(parentIdOf(tracing.calls()[0])).toBe(span.spanContext().spanId);
  });

  it("a span of its that has ended is not taken for the call span", async () => {
    const scene = await open();
    const span = trace.getTracer(scope).startSpan(`grpc.${path}`, { kind: SpanKind.CLIENT });
    span.end();
    await context.with(trace.setSpan(context.active(), span), () => scene.link.until(unary(scene)));
    expect(tracing.calls()).toHaveLength(1);
  });
});

describe("on a server", () => {
  /** A handler as the instrumentation wraps it: with a span made from what the metadata says. */
  const wrapped: SceneOptions["handlers"] & object = {
    unary: (call, callback) => {
      const parent = propagation.extract(ROOT_CONTEXT, call.metadata, metadataGetter);
      trace.getTracer(scope).startSpan("theirs", { kind: SpanKind.SERVER }, parent).end();
      callback(null, { payload: Buffer.alloc(0), sequence: 1 });
    },
  };
  const register: object = Reflect.get(Server.prototype, "register");

  afterEach(() => {
    Reflect.deleteProperty(register, "__wrapped");
  });

  it("its span stands below ours, because it finds ours in the metadata", async () => {
    Reflect.set(register, "__wrapped", true);
    const scene = await open({ handlers: wrapped });
    await scene.link.until(unary(scene));
    expect(parentIdOf(theirs()[0])).toBe(idOf(tracing.servers()[0]));
    expect(parentIdOf(tracing.servers()[0])).toBe(idOf(tracing.attempts()[0]));
  });

  it("without it, a handler sees the metadata as it was sent", async () => {
    const scene = await open({ handlers: wrapped });
    await scene.link.until(unary(scene));
    expect(parentIdOf(theirs()[0])).toBe(idOf(tracing.attempts()[0]));
  });
});
