import { type Interceptor, Metadata, type ServerInterceptor } from "@grpc/grpc-js";
import { context, propagation, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { afterEach, describe, expect, it } from "vitest";
import { clientSpans } from "../../src/telemetry/client-spans.js";
import { serverSpans } from "../../src/telemetry/server-spans.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { type Handlers, kinds, openScene, type Scene, type SceneOptions, unary } from "./scene.js";
import { traceContext } from "./trace-context.js";
import { startTracing } from "./tracing.js";

const scenes: Scene[] = [];

async function open(options?: SceneOptions, transport = inMemoryTransport()): Promise<Scene> {
  const scene = await openScene(transport, options);
  scenes.push(scene);
  return scene;
}

afterEach(async () => {
  for (const scene of scenes.splice(0)) await scene.link.close();
  trace.disable();
  context.disable();
  propagation.disable();
});

const traceparent = "00-11111111111111111111111111111111-2222222222222222-01";
const remote = {
  traceId: "11111111111111111111111111111111",
  spanId: "2222222222222222",
  traceFlags: 1,
};

/** Keeps the `traceparent` of each request. */
function noting(received: string[][]): Handlers {
  return {
    unary: (call, callback) => {
      received.push(call.metadata.get("traceparent").map(String));
      callback(null, { payload: Buffer.alloc(0), sequence: 1 });
    },
  };
}

describe("where no SDK is registered", () => {
  it.each(Object.entries(kinds))("a %s call works", async (_kind, run) => {
    const scene = await open();
    expect(await scene.link.until(run(scene))).toBe("OK");
  });

  it("no trace context is added to the metadata", async () => {
    const received: string[][] = [];
    const scene = await open({ handlers: noting(received) });
    await scene.link.until(unary(scene));
    expect(received).toEqual([[]]);
  });

  it("no interceptor stands in the way of a call", () => {
    const below = {} as ReturnType<Interceptor>;
    const callOptions = { method_definition: { path: "/a.B/C" } } as Parameters<Interceptor>[0];
    const given: unknown[] = [];
    const nextCall = (seen: unknown) => {
      given.push(seen);
      return below;
    };
    const spans = clientSpans();
    for (const interceptor of [spans.call, spans.attempt]) {
      expect(interceptor(callOptions, nextCall)).toBe(below);
    }
    expect(given).toEqual([callOptions, callOptions]);
    const call = {} as Parameters<ServerInterceptor>[1];
    const method = {} as Parameters<ServerInterceptor>[0];
    expect(serverSpans()(method, call)).toBe(call);
  });

  it("a trace of others is passed on, from hop to hop, where there is a propagator", async () => {
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
    propagation.setGlobalPropagator(traceContext);
    const received: string[][] = [];
    const transport = inMemoryTransport();
    const last = await open({ handlers: noting(received) }, transport);
    const middle = await open(
      {
        handlers: {
          unary: (call, callback) => {
            last.client.unary(call.request, callback);
          },
        },
      },
      transport,
    );
    const active = trace.setSpanContext(context.active(), remote);
    await context.with(active, () => middle.link.until(unary(middle)));
    expect(received).toEqual([[traceparent]]);
  });
});

it("an SDK that is registered later is found", async () => {
  const scene = await open();
  await scene.link.until(unary(scene));
  const tracing = startTracing();
  await scene.link.until(unary(scene));
  expect(tracing.calls()).toHaveLength(1);
  expect(tracing.attempts()).toHaveLength(1);
  expect(tracing.servers()).toHaveLength(1);
});

describe("with tracing switched off", () => {
  it("nothing is recorded, and nothing added to the metadata", async () => {
    const tracing = startTracing();
    const received: string[][] = [];
    const scene = await open({ telemetry: { tracing: false }, handlers: noting(received) });
    expect(await scene.link.until(unary(scene))).toBe("OK");
    expect(tracing.spans()).toEqual([]);
    expect(received).toEqual([[]]);
  });

  it("what the caller put there goes through", async () => {
    const received: string[][] = [];
    const scene = await open({ telemetry: { tracing: false }, handlers: noting(received) });
    const metadata = new Metadata();
    metadata.set("traceparent", traceparent);
    await scene.link.until(unary(scene, { metadata }));
    expect(received).toEqual([[traceparent]]);
  });
});
