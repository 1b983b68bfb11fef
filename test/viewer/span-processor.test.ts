import { SpanKind, SpanStatusCode } from "@opentelemetry/api";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BasicTracerProvider, type SpanProcessor } from "@opentelemetry/sdk-trace-base";
import { VirtualClock } from "grpc-weir/testing";
import { describe, expect, it } from "vitest";
import { Recorder } from "../../src/viewer/recorder.js";
import { RecordingSpanProcessor } from "../../src/viewer/span-processor.js";

function setup() {
  const errors: unknown[] = [];
  const recorder = new Recorder(
    { limits: {}, clock: new VirtualClock() },
    { onCall: () => {}, onPoints: () => {} },
  );
  const processor = new RecordingSpanProcessor(recorder, (error) => errors.push(error));
  const fitting: SpanProcessor = processor;
  const provider = new BasicTracerProvider({
    spanProcessors: [fitting],
    resource: resourceFromAttributes({ "service.name": "orders" }),
  });
  return { recorder, processor, provider, tracer: provider.getTracer("grpc-weir"), errors };
}

describe("a span of the SDK", () => {
  it("is recorded as it was made", () => {
    const { recorder, tracer } = setup();
    const span = tracer.startSpan("shop.v1.Shop/List", {
      kind: SpanKind.CLIENT,
      startTime: [1_750_000_000, 500_000_000],
      attributes: { "rpc.method": "shop.v1.Shop/List", list: ["a", "b"] },
    });
    span.addEvent("weir.decision", { "weir.decision.policy": "retry" }, [1_750_000_001, 0]);
    span.setStatus({ code: SpanStatusCode.ERROR, message: "no" });
    span.end([1_750_000_002, 250_000]);
    const { traceId, spanId } = span.spanContext();
    expect(recorder.store.view(traceId)?.spans).toEqual([
      {
        traceId,
        spanId,
        name: "shop.v1.Shop/List",
        kind: "client",
        service: "orders",
        scope: "grpc-weir",
        startMs: 1_750_000_000_500,
        endMs: 1_750_000_002_000.25,
        status: "error",
        statusMessage: "no",
        attributes: { "rpc.method": "shop.v1.Shop/List", list: ["a", "b"] },
        events: [
          {
            name: "weir.decision",
            atMs: 1_750_000_001_000,
            attributes: { "weir.decision.policy": "retry" },
          },
        ],
      },
    ]);
    expect(recorder.store.calls.size).toBe(1);
  });

  it("names the service of the process", () => {
    const { processor, tracer } = setup();
    expect(processor.service).toBe("this process");
    tracer.startSpan("a").end();
    expect(processor.service).toBe("orders");
  });

  it("that cannot be read is reported, and the SDK goes on", () => {
    const { recorder, processor, errors } = setup();
    processor.onEnd({
      name: "a",
      kind: SpanKind.CLIENT,
      spanContext: () => {
        throw new Error("broken");
      },
      startTime: [0, 0],
      endTime: [0, 0],
      status: { code: SpanStatusCode.UNSET },
      attributes: {},
      events: [],
      resource: { attributes: {} },
      instrumentationScope: { name: "" },
    });
    expect(errors).toMatchObject([{ message: "broken" }]);
    expect(recorder.store.spanCount).toBe(0);
  });

  it.each([
    [[5, 0], [4, 0], 5_000, 5_000],
    [[Number.NaN, 0], [4, 0], 0, 4_000],
    [[5, 0], [Number.POSITIVE_INFINITY, 0], 5_000, 5_000],
    [[5, 0], [1e300, 0], 5_000, 5_000],
  ] as const)("from %j to %j has times that follow one another", (start, end, startMs, endMs) => {
    const { recorder, processor } = setup();
    processor.onEnd({
      name: "a",
      kind: SpanKind.CLIENT,
      spanContext: () => ({ traceId: "1", spanId: "2" }),
      startTime: start,
      endTime: end,
      status: { code: SpanStatusCode.UNSET },
      attributes: {},
      events: [],
      resource: { attributes: {} },
      instrumentationScope: { name: "" },
    });
    expect(recorder.store.view("1")?.spans).toMatchObject([{ startMs, endMs }]);
  });

  it("that ends after the SDK was shut down is not recorded", async () => {
    const { recorder, processor, provider, tracer } = setup();
    const span = tracer.startSpan("a");
    await processor.forceFlush();
    await provider.shutdown();
    span.end();
    expect(recorder.store.spanCount).toBe(0);
  });
});
