import { context, propagation, SpanKind, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  BasicTracerProvider,
  BatchSpanProcessor,
  type ReadableSpan,
  type SpanExporter,
} from "@opentelemetry/sdk-trace-base";
import { type Role, report, type SpanRecord } from "./messages.js";
import { traceContext } from "./trace-context.js";

/**
 * Sets OpenTelemetry up as any program would. The toolkit finds it by itself: it speaks to the global API. Only
 * the exporter is special, it sends to the parent process.
 *
 * @returns Sends the spans.
 */
export function startTracing(service: Role): () => Promise<void> {
  const batches = new BatchSpanProcessor(exporterOf(service), {
    // All at the end: what is sent while calls are measured would be measured with them.
    scheduledDelayMillis: 300_000,
    maxExportBatchSize: 50_000,
    maxQueueSize: 50_000,
  });
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [batches] }));
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(traceContext);
  return () => batches.forceFlush();
}

function exporterOf(service: Role): SpanExporter {
  return {
    export(spans, done) {
      const records = spans.map((span) => recordOf(service, span));
      report({ type: "spans", spans: records }, () => done({ code: 0 }));
    },
    shutdown: () => Promise.resolve(),
  };
}

const kinds = { [SpanKind.CLIENT]: "client", [SpanKind.SERVER]: "server" } as const;

function recordOf(service: Role, span: ReadableSpan): SpanRecord {
  const { traceId, spanId } = span.spanContext();
  return {
    service,
    traceId,
    spanId,
    parentId: span.parentSpanContext?.spanId,
    name: span.name,
    kind:
      span.kind === SpanKind.CLIENT || span.kind === SpanKind.SERVER
        ? kinds[span.kind]
        : "internal",
    startMs: epochMs(span.startTime),
    endMs: epochMs(span.endTime),
    attributes: span.attributes,
    events: span.events.map(({ name, time, attributes }) => ({
      name,
      atMs: epochMs(time),
      attributes: attributes ?? {},
    })),
  };
}

function epochMs([seconds, nanoseconds]: readonly [number, number]): number {
  return seconds * 1_000 + nanoseconds / 1e6;
}
