import { type Interceptor, Metadata } from "@grpc/grpc-js";
import {
  context,
  ROOT_CONTEXT,
  SpanKind,
  type TextMapPropagator,
  type TracerProvider,
  trace,
} from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import * as client from "../../src/client.js";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
} from "../../src/gen/weir/v1/conformance.js";
import { InboundCall, runInbound } from "../../src/grpc/context/inbound-call.js";
import type { ServerCall, ServerCallListener } from "../../src/grpc/types.js";
import * as server from "../../src/server.js";
import { clientSpans } from "../../src/telemetry/client-spans.js";
import type { TelemetryOptions } from "../../src/telemetry/options.js";
import { serverSpans } from "../../src/telemetry/server-spans.js";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import type { Link } from "../../src/testing/transport.js";
import { unary } from "./scene.js";
import { traceContext } from "./trace-context.js";

const links: Link[] = [];

afterEach(async () => {
  for (const link of links.splice(0)) await link.close();
});

/** A provider that is handed in, and is no global one. */
function recorder() {
  const exporter = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  return { provider, spans: () => exporter.getFinishedSpans() };
}

type Answer = (error: object | null, answer?: object) => void;

function answering(_call: unknown, callback: Answer): void {
  callback(null, { payload: Buffer.alloc(0), sequence: 1 });
}

type Pipelines = (env: { readonly clock: ReturnType<typeof inMemoryTransport>["clock"] }) => {
  readonly client: readonly Interceptor[];
  readonly server: Parameters<
    ReturnType<typeof inMemoryTransport>["open"]
  >[0]["serverInterceptors"];
};

async function open(pipelines: Pipelines) {
  const transport = inMemoryTransport();
  const { clock } = transport;
  let failures = 1;
  const made = pipelines({ clock });
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation: {
      unary: (call: unknown, callback: Answer) => {
        failures -= 1;
        if (failures >= 0) callback({ code: 14, details: "not now" });
        else answering(call, callback);
      },
    },
    clientOptions: { interceptors: [...made.client] },
    serverInterceptors: made.server ?? [],
  });
  links.push(link);
  return { link, client: link.client(ConformanceServiceClient) };
}

it("the spans can be put into an array of one's own, with a provider of one's own", async () => {
  const { provider, spans } = recorder();
  const telemetry = { tracerProvider: provider, propagator: traceContext };
  const scene = await open(({ clock }) => {
    const ours = clientSpans({ ...telemetry, clock });
    return {
      client: [
        ours.call,
        client.retry({ clock, random: () => 0.5, idempotent: true }),
        ours.attempt,
      ],
      server: [server.context({ clock }), serverSpans({ ...telemetry, clock })],
    };
  });
  expect(await scene.link.until(unary(scene))).toBe("OK");
  const tree = spans().map(({ name, kind }) => `${SpanKind[kind]} ${name}`);
  const method = "weir.v1.ConformanceService/Unary";
  const attempt = "CLIENT Attempt.weir.v1.ConformanceService.Unary";
  expect(tree).toEqual([
    `SERVER ${method}`,
    attempt,
    "INTERNAL wait: backoff",
    `SERVER ${method}`,
    attempt,
    `CLIENT ${method}`,
  ]);
  const ids = spans().map((span) => span.spanContext().spanId);
  const parents = spans().map((span) => span.parentSpanContext?.spanId);
  expect(parents).toEqual([ids[1], ids[5], ids[5], ids[4], ids[5], undefined]);
  // No transformer has told the target: the call on the wire does.
  expect(spans()[5]?.attributes).toMatchObject({
    "server.address": "127.0.0.1",
    "server.port": 40001,
  });
});

it("a call span above nothing but faults names the server", async () => {
  vi.stubEnv("GRPC_WEIR_FAULTS", "1");
  const { provider, spans } = recorder();
  const scene = await open(({ clock }) => {
    const ours = clientSpans({ tracerProvider: provider, clock });
    const delayed = client.faults({ clock, latency: { rate: 1, ms: 1 } });
    return { client: [ours.call, delayed], server: [] };
  });
  vi.unstubAllEnvs();
  await scene.link.until(unary(scene), 1_000);
  expect(spans().map(({ attributes }) => attributes)).toMatchObject([
    { "server.address": "127.0.0.1", "server.port": 40001 },
  ]);
});

describe("with a context manager", () => {
  beforeEach(() => {
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  });

  afterEach(() => {
    context.disable();
  });

  it("an attempt without a call span stands below what was active for the caller", async () => {
    const { provider, spans } = recorder();
    const elsewhere: Interceptor = (options, nextCall) =>
      context.with(ROOT_CONTEXT, () => nextCall(options)) as ReturnType<Interceptor>;
    const scene = await open(({ clock }) => ({
      client: [
        client.context({ clock }),
        elsewhere,
        clientSpans({ tracerProvider: provider, clock }).attempt,
      ],
      server: [],
    }));
    const parent = provider.getTracer("app").startSpan("app");
    const active = trace.setSpan(context.active(), parent);
    await context.with(active, () => scene.link.until(unary(scene)));
    expect(spans().map((span) => span.parentSpanContext?.spanId)).toEqual([
      parent.spanContext().spanId,
    ]);
  });
});

it("a server's spans without a context interceptor know nothing of another call that is current", () => {
  const { provider, spans } = recorder();
  const { clock } = inMemoryTransport();
  const report = () => {};
  const caller = { getPeer: () => "", getAuthContext: () => ({}) };
  const common = { clock, report, caller, startedAtMs: clock.now(), deadlineMs: clock.now() };
  const other = new InboundCall({ method: "/a.B/C", kind: "unary", ...common });
  other.metadata = new Metadata();
  let listener: Partial<ServerCallListener> = {};
  const below = {
    start: (given: ServerCallListener) => {
      listener = given;
    },
    getDeadline: () => Number.POSITIVE_INFINITY,
    getHost: () => "orders:8443",
    getPeer: () => "unknown",
  } as unknown as ServerCall;
  const method = { path: "/d.E/F" } as Parameters<ReturnType<typeof serverSpans>>[0];
  runInbound(other, () => {
    const call = serverSpans({ tracerProvider: provider, clock })(method, below);
    call.start({ onReceiveMetadata: () => {}, onCancel: () => {} } as never);
    listener.onReceiveMetadata?.(new Metadata());
    listener.onCancel?.();
  });
  expect(spans().map(({ attributes }) => attributes)).toEqual([
    {
      "rpc.system.name": "grpc",
      "rpc.method": "d.E/F",
      "rpc.status_code": "CANCELLED",
      "server.address": "orders",
      "server.port": 8443,
    },
  ]);
});

it("the caller's metadata is left alone where no policy has copied it", async () => {
  const { provider, spans } = recorder();
  const scene = await open(({ clock }) => {
    const ours = clientSpans({ tracerProvider: provider, propagator: traceContext, clock });
    return { client: [ours.call, ours.attempt], server: [] };
  });
  const metadata = new Metadata();
  await scene.link.until(unary(scene, { metadata }));
  expect(spans()).toHaveLength(2);
  expect(metadata.getMap()).toEqual({});
});

it("an attempt stands below the nearest call span, where there are two", async () => {
  const { provider, spans } = recorder();
  const scene = await open(({ clock }) => {
    const ours = clientSpans({ tracerProvider: provider, clock });
    return { client: [ours.call, ours.call, ours.attempt], server: [] };
  });
  await scene.link.until(unary(scene));
  const [attempt, inner] = spans();
  expect(attempt?.parentSpanContext?.spanId).toBe(inner?.spanContext().spanId);
});

it.each(["call", "attempt"] as const)(
  "a call that is cancelled while what is below has just failed ends the span of the %s",
  async (which) => {
    const { provider, spans } = recorder();
    const broken: Interceptor = () => {
      throw new Error("broken");
    };
    const scene = await open(({ clock }) => ({
      client: [clientSpans({ tracerProvider: provider, clock })[which], broken],
      server: [],
    }));
    const cancelAfter = (cancel: () => void) => cancel();
    expect(await scene.link.until(unary(scene, { cancelAfter }))).toBe("CANCELLED");
    expect(spans().map((span) => span.attributes["rpc.status_code"])).toEqual(["CANCELLED"]);
  },
);

it("a server's spans without a context interceptor tell the end of a call that has run out of time", async () => {
  const { provider, spans } = recorder();
  const transport = inMemoryTransport();
  const { clock } = transport;
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation: { unary: () => {} },
    serverInterceptors: [serverSpans({ tracerProvider: provider, clock })],
  });
  links.push(link);
  const scene = { client: link.client(ConformanceServiceClient) };
  await link.until(unary(scene, { deadlineIn: 100 }, clock));
  await link.pass(10);
  expect(spans()[0]?.attributes).toMatchObject({
    "rpc.status_code": "DEADLINE_EXCEEDED",
    "weir.call.deadline_ms": 100,
  });
  expect(spans()[0]?.attributes).not.toHaveProperty("weir.call.priority");
});

describe("an OpenTelemetry that is broken costs the call nothing", () => {
  const broken = (): never => {
    throw new Error("broken");
  };
  const brokenSpan = new Proxy(
    {},
    {
      get: (_target, key) => {
        if (key === "isRecording") return () => true;
        if (key === "spanContext") return () => ({ traceId: "", spanId: "", traceFlags: 0 });
        return broken;
      },
    },
  );
  const cases: Readonly<Record<string, TelemetryOptions>> = {
    "a provider that throws": { tracerProvider: { getTracer: broken } },
    "a tracer that throws": {
      tracerProvider: {
        getTracer: () => ({ startSpan: broken, startActiveSpan: broken }),
      },
    },
    "a span that throws": {
      tracerProvider: {
        getTracer: () => ({ startSpan: () => brokenSpan, startActiveSpan: broken }),
      } as unknown as TracerProvider,
    },
    "a tracer that gives no span": {
      tracerProvider: {
        getTracer: () => ({ startSpan: () => undefined, startActiveSpan: broken }),
      } as unknown as TracerProvider,
    },
    "a tracer that promises a span": {
      tracerProvider: {
        getTracer: () => ({ startSpan: async () => broken(), startActiveSpan: broken }),
      } as unknown as TracerProvider,
    },
    "a provider that gives no tracer": {
      tracerProvider: { getTracer: () => null } as unknown as TracerProvider,
    },
    "a span that will not say whether it records": {
      tracerProvider: {
        getTracer: () => ({ startSpan: () => ({ isRecording: broken }), startActiveSpan: broken }),
      } as unknown as TracerProvider,
    },
    "a propagator that extracts nothing": {
      tracerProvider: recorder().provider,
      propagator: {
        inject: () => {},
        extract: () => undefined,
        fields: () => ["x"],
      } as unknown as TextMapPropagator,
    },
    "a propagator that throws": {
      tracerProvider: recorder().provider,
      propagator: { inject: broken, extract: broken, fields: broken } satisfies TextMapPropagator,
    },
    "a propagator that throws, without an SDK": {
      propagator: { inject: broken, extract: broken, fields: () => ["x"] },
    },
    "a propagator that writes what metadata cannot carry": {
      tracerProvider: recorder().provider,
      propagator: {
        ...traceContext,
        inject: (_context, carrier, setter) => setter.set(carrier, "x-name", "ü"),
      },
    },
  };

  it.each(Object.entries(cases))("%s", async (_name, telemetry) => {
    const reported: string[] = [];
    const onError = (_error: unknown, where: string) => void reported.push(where);
    const scene = await open(({ clock }) => {
      const ours = clientSpans({ ...telemetry, clock, onError });
      return {
        client: [
          ours.call,
          client.retry({ clock, random: () => 0.5, idempotent: true }),
          ours.attempt,
        ],
        server: [serverSpans({ ...telemetry, clock, onError })],
      };
    });
    const metadata = new Metadata();
    metadata.set("x-request-priority", "high");
    expect(await scene.link.until(unary(scene, { metadata }))).toBe("OK");
    expect(reported.length).toBeGreaterThan(0);
    expect(reported.filter((where) => !/^(tracerProvider|propagator)$/.test(where))).toEqual([]);
  });
});
