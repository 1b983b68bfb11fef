import { context, propagation, SpanKind, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  BasicTracerProvider,
  BatchSpanProcessor,
  type ReadableSpan,
  type SpanExporter,
} from "@opentelemetry/sdk-trace-base";
import { report, type SpanRecord } from "./messages.js";
import { traceContext } from "./trace-context.js";

export interface Spans {
  /** Forgets those that have ended so far. */
  forget(): Promise<void>;
  /** Sends the others to the parent process. Those that follow are not kept. */
  send(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Sets OpenTelemetry up as any program would. The toolkit finds it by itself: it speaks to the global API. Only
 * the exporter is special.
 *
 * @param otlp Where spans and metrics go once a second, too; without it nowhere.
 */
export async function startTracing(otlp?: string): Promise<Spans> {
  let forgetting = false;
  const exporter: SpanExporter = {
    export(spans, done) {
      if (forgetting) done({ code: 0 });
      else report({ type: "spans", spans: spans.map(recordOf) }, () => done({ code: 0 }));
    },
    shutdown: () => Promise.resolve(),
  };
  const batches = new BatchSpanProcessor(exporter, {
    // All at the end: what is sent while calls are measured would be measured with them.
    scheduledDelayMillis: 300_000,
    maxExportBatchSize: 50_000,
    maxQueueSize: 50_000,
  });
  const live = otlp === undefined ? undefined : (await import("./live-tracing.js")).live(otlp);
  const spanProcessors = live === undefined ? [batches] : [batches, live.spanProcessor];
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors }));
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(traceContext);
  return {
    async forget() {
      forgetting = true;
      await batches.forceFlush();
      forgetting = false;
    },
    send: () => batches.shutdown(),
    close: async () => live?.close(),
  };
}

const kinds = { [SpanKind.CLIENT]: "client", [SpanKind.SERVER]: "server" } as const;

function recordOf(span: ReadableSpan): SpanRecord {
  const { traceId, spanId } = span.spanContext();
  return {
    traceId,
    spanId,
    parentId: span.parentSpanContext?.spanId,
    name: span.name,
    kind: kindOf(span),
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

export function kindOf({ kind }: ReadableSpan): SpanRecord["kind"] {
  return kind === SpanKind.CLIENT || kind === SpanKind.SERVER ? kinds[kind] : "internal";
}

function epochMs([seconds, nanoseconds]: readonly [number, number]): number {
  return seconds * 1_000 + nanoseconds / 1e6;
}
