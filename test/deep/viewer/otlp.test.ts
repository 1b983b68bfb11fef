import { gzipSync } from "node:zlib";
import { Client, credentials, type ServiceError } from "@grpc/grpc-js";
import { context, SpanKind, trace } from "@opentelemetry/api";
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto";
import { OTLPTraceExporter as GrpcExporter } from "@opentelemetry/exporter-trace-otlp-grpc";
import { OTLPTraceExporter as JsonExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtobufExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import {
  BasicTracerProvider,
  BatchSpanProcessor,
  type SpanExporter,
} from "@opentelemetry/sdk-trace-base";
import {
  type BoardView,
  type CallsView,
  type TraceView,
  type TraceViewer,
  traceViewer,
} from "grpc-weir/viewer";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import {
  ExportTraceServiceRequest,
  ExportTraceServiceResponse,
  TraceServiceService,
} from "../../../src/gen/opentelemetry/proto/collector/trace/v1/trace_service.js";
import type { Span } from "../../../src/gen/opentelemetry/proto/trace/v1/trace.js";

let viewer: TraceViewer;
let http = "";
let grpc = "";

beforeAll(async () => {
  viewer = await traceViewer({ port: 0, otlp: { grpcPort: 0, httpPort: 0 } });
  http = viewer.otlp?.http ?? "";
  grpc = viewer.otlp?.grpc ?? "";
});

afterAll(() => viewer.close());

const resourceNamed = (service: string) => resourceFromAttributes({ "service.name": service });

async function read<T>(path: string): Promise<T> {
  return JSON.parse(await (await fetch(`${viewer.url}${path}`)).text());
}

const tracerOf = (service: string, exporter: SpanExporter) => {
  const provider = new BasicTracerProvider({
    resource: resourceNamed(service),
    spanProcessors: [new BatchSpanProcessor(exporter)],
  });
  return { provider, tracer: provider.getTracer("grpc-weir", "1.0.0") };
};

describe("the exporters of OpenTelemetry JS", () => {
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it.each([
    ["gRPC", "none", () => new GrpcExporter({ url: grpc })],
    ["gRPC", "gzip", () => new GrpcExporter({ url: grpc })],
    ["JSON over HTTP", "none", () => new JsonExporter({ url: `${http}/v1/traces` })],
    ["JSON over HTTP", "gzip", () => new JsonExporter({ url: `${http}/v1/traces` })],
    ["Protobuf over HTTP", "none", () => new ProtobufExporter({ url: `${http}/v1/traces` })],
    ["Protobuf over HTTP", "gzip", () => new ProtobufExporter({ url: `${http}/v1/traces` })],
  ])("send a trace of two processes by %s with compression %s", async (_, compression, make) => {
    vi.stubEnv("OTEL_EXPORTER_OTLP_COMPRESSION", compression);
    const caller = tracerOf("edge", make());
    const callee = tracerOf("stock", make());
    const startMs = 1_750_000_000_000.125;
    const rpc = { "rpc.method": "shop.v1.Shop/List", "rpc.status_code": "OK" };
    const call = caller.tracer.startSpan("shop.v1.Shop/List", {
      kind: SpanKind.CLIENT,
      startTime: startMs,
      attributes: { ...rpc, "weir.call.attempts": 1, list: ["a", "b"], share: 0.5, yes: true },
    });
    const inbound = callee.tracer.startSpan(
      "shop.v1.Shop/List",
      { kind: SpanKind.SERVER, startTime: startMs + 1, attributes: rpc },
      trace.setSpan(context.active(), call),
    );
    inbound.end(startMs + 2);
    call.addEvent("weir.decision", { "weir.decision.policy": "retry" }, startMs + 3);
    call.end(startMs + 4.5);
    // The span of the server comes first, and from another process.
    await callee.provider.shutdown();
    await caller.provider.shutdown();

    const { traceId, spanId } = call.spanContext();
    const { spans } = await read<TraceView>(`/api/traces/${traceId}`);
    expect(spans).toMatchObject([
      {
        spanId,
        name: "shop.v1.Shop/List",
        kind: "client",
        service: "edge",
        scope: "grpc-weir",
        startMs,
        endMs: startMs + 4.5,
        attributes: { "weir.call.attempts": 1, list: ["a", "b"], share: 0.5, yes: true },
        events: [
          {
            name: "weir.decision",
            atMs: startMs + 3,
            attributes: { "weir.decision.policy": "retry" },
          },
        ],
      },
      { kind: "server", service: "stock", parentSpanId: spanId },
    ]);
    const { calls } = await read<CallsView>(`/api/calls?q=${traceId}`);
    expect(calls).toMatchObject([{ side: "client", service: "edge", policies: ["retry"] }]);
  });

  it("send gauges, which the board shows", async () => {
    const reader = new PeriodicExportingMetricReader({
      exporter: new OTLPMetricExporter({ url: `${http}/v1/metrics` }),
      exportIntervalMillis: 1_000_000,
    });
    const provider = new MeterProvider({ resource: resourceNamed("stock"), readers: [reader] });
    const meter = provider.getMeter("grpc-weir");
    meter.createGauge("weir.queue.length").record(3, { "weir.priority": "low" });
    meter.createGauge("weir.admission.limit").record(20);
    meter.createGauge("weir.breaker.state").record(2, { "weir.breaker.key": "db" });
    meter.createHistogram("weir.queue.wait").record(0.5);
    await provider.shutdown();
    await expect
      .poll(async () => (await read<BoardView>("/api/board")).points.at(-1), { timeout: 5_000 })
      .toMatchObject({
        queue: { stock: 3 },
        limit: { stock: 20 },
        breakers: { "stock db": "open" },
      });
  });
});

/** A message of one span. Its trace has the length that is asked for. */
function message(traceBytes: number): ExportTraceServiceRequest {
  const span: Span = {
    traceId: Buffer.alloc(traceBytes, 7),
    spanId: Buffer.alloc(8, 7),
    traceState: "",
    parentSpanId: Buffer.alloc(0),
    flags: 0,
    name: "a",
    kind: 1,
    startTimeUnixNano: 1n,
    endTimeUnixNano: 2n,
    attributes: [],
    droppedAttributesCount: 0,
    events: [],
    droppedEventsCount: 0,
    links: [],
    droppedLinksCount: 0,
    status: undefined,
  };
  const scopeSpans = [{ scope: undefined, spans: [span], schemaUrl: "" }];
  return { resourceSpans: [{ resource: undefined, scopeSpans, schemaUrl: "" }] };
}

const protobuf = { "content-type": "application/x-protobuf" };
const json = { "content-type": "application/json" };

/** Bytes for `fetch`. */
const bytes = (buffer: Uint8Array) => new Uint8Array(buffer);

describe("OTLP over HTTP", () => {
  const post = (body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string>) =>
    fetch(`${http}/v1/traces`, { method: "POST", headers, body });
  const errorOf = async (response: Response) => `${response.status} ${await response.text()}`;

  it("answers an empty message in the form in which it came", async () => {
    const inJson = await post("{}", json);
    expect([inJson.status, inJson.headers.get("content-type"), await inJson.text()]).toEqual([
      200,
      "application/json; charset=utf-8",
      "{}",
    ]);
    const inProtobuf = await post(new Uint8Array(), protobuf);
    expect([inProtobuf.status, inProtobuf.headers.get("content-type")]).toEqual([
      200,
      "application/x-protobuf",
    ]);
    expect(await inProtobuf.arrayBuffer()).toHaveProperty("byteLength", 0);
  });

  it("says how many spans it rejected, in JSON", async () => {
    const span = { traceId: "ab", spanId: "cd" };
    const response = await post(
      JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [span, span] }] }] }),
      json,
    );
    expect(response.status).toBe(200);
    expect(JSON.parse(await response.text())).toMatchObject({
      partialSuccess: { rejectedSpans: "2", errorMessage: expect.stringContaining("16 bytes") },
    });
  });

  it("says how many spans it rejected, in Protobuf", async () => {
    const sent = bytes(ExportTraceServiceRequest.encode(message(15)).finish());
    const response = await post(sent, protobuf);
    const answer = ExportTraceServiceResponse.decode(new Uint8Array(await response.arrayBuffer()));
    expect(answer.partialSuccess).toMatchObject({ rejectedSpans: 1n });
  });

  it("takes a media type with parameters", async () => {
    const response = await post("{}", { "content-type": "Application/JSON; charset=utf-8" });
    expect(response.status).toBe(200);
  });

  it.each([
    ["what is no Protobuf", "\xff\xff\xff", protobuf, "400", "no message of OTLP"],
    ["what is no JSON", "{", json, "400", "no message of OTLP"],
    ["JSON that is no message", "[]", json, "400", "an object with resourceSpans"],
    ["another media type", "{}", { "content-type": "text/plain" }, "415", "application/json"],
    ["no media type", "{}", { "content-type": "" }, "415", "application/x-protobuf"],
    ["another compression", "{}", { ...json, "content-encoding": "br" }, "415", "gzip"],
    ["what is not zipped", "{}", { ...json, "content-encoding": "gzip" }, "400", "unzipped"],
  ])("refuses %s", async (_, body, headers, status, why) => {
    const error = await errorOf(await post(body, headers));
    expect(error).toMatch(new RegExp(`^${status} \\{"error":`));
    expect(error).toContain(why);
  });

  it("refuses a body of more than 20 MiB", async () => {
    const error = await errorOf(await post(" ".repeat(21 * 1024 * 1024), json));
    expect(error).toMatch(/^413 .*longer than 20971520 bytes/);
  });

  it("refuses a small body that unzips to more than 20 MiB", async () => {
    const bomb = bytes(gzipSync(Buffer.alloc(30 * 1024 * 1024, " ")));
    const error = await errorOf(await post(bomb, { ...json, "content-encoding": "gzip" }));
    expect(error).toMatch(/^413 .*longer than 20971520 bytes/);
  });

  it("is at two paths, by POST", async () => {
    const get = await fetch(`${http}/v1/traces`);
    expect([get.status, get.headers.get("allow")]).toEqual([405, "POST"]);
    const logs = await fetch(`${http}/v1/logs`, { method: "POST", headers: json, body: "{}" });
    expect(await errorOf(logs)).toMatch(/^404 .*\/v1\/traces/);
  });
});

describe("OTLP over gRPC", () => {
  const exported = (body: Buffer) =>
    new Promise<ExportTraceServiceResponse | ServiceError>((resolve) => {
      const client = new Client(grpc.slice("http://".length), credentials.createInsecure());
      const { path, responseDeserialize } = TraceServiceService.export;
      client.makeUnaryRequest(
        path,
        (sent: Buffer) => sent,
        responseDeserialize,
        body,
        (error, answer) => {
          client.close();
          if (error !== null) resolve(error);
          else if (answer !== undefined) resolve(answer);
        },
      );
    });

  it("says how many spans it rejected", async () => {
    const sent = Buffer.from(ExportTraceServiceRequest.encode(message(0)).finish());
    expect(await exported(sent)).toMatchObject({ partialSuccess: { rejectedSpans: 1n } });
  });

  it("takes a message of nothing", async () => {
    expect(await exported(Buffer.alloc(0))).toEqual({ partialSuccess: undefined });
  });

  it("refuses what is no message", async () => {
    expect(await exported(Buffer.from([0xff, 0xff, 0xff]))).toMatchObject({ code: 13 });
  });

  it("refuses a message of more than 20 MiB", async () => {
    expect(await exported(Buffer.alloc(21 * 1024 * 1024))).toMatchObject({ code: 8 });
  });
});
