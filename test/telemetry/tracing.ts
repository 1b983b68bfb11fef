import { context, propagation, SpanKind, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  type Sampler,
  SimpleSpanProcessor,
  type SpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { traceContext } from "./trace-context.js";

/** An SDK that is registered globally and keeps what it is told. The one place that knows its version. */
export interface TracingUnderTest {
  /** Spans that have ended, in the order of their ends. */
  spans(): ReadableSpan[];
  /** Spans of a kind of the toolkit's. */
  calls(): ReadableSpan[];
  attempts(): ReadableSpan[];
  servers(): ReadableSpan[];
  /** Names of the spans that have started and not ended. */
  open(): string[];
  stop(): void;
}

export function startTracing(options: { readonly sampler?: Sampler } = {}): TracingUnderTest {
  const exporter = new InMemorySpanExporter();
  const open = new Set<{ readonly name: string }>();
  const counter: SpanProcessor = {
    onStart: (span) => {
      open.add(span);
    },
    onEnd: (span) => {
      open.delete(span);
    },
    forceFlush: () => Promise.resolve(),
    shutdown: () => Promise.resolve(),
  };
  const provider = new BasicTracerProvider({
    ...options,
    spanProcessors: [counter, new SimpleSpanProcessor(exporter)],
  });
  trace.setGlobalTracerProvider(provider);
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(traceContext);
  const spans = () => exporter.getFinishedSpans();
  const ours = () => spans().filter((span) => span.instrumentationScope.name === "grpc-weir");
  const attempt = /^Attempt\./;
  return {
    spans,
    calls: () => ours().filter((s) => s.kind === SpanKind.CLIENT && !attempt.test(s.name)),
    attempts: () => ours().filter((span) => attempt.test(span.name)),
    servers: () => ours().filter((span) => span.kind === SpanKind.SERVER),
    open: () => [...open].map((span) => span.name),
    stop() {
      trace.disable();
      context.disable();
      propagation.disable();
    },
  };
}

export function parentIdOf(span: ReadableSpan | undefined): string | undefined {
  return span?.parentSpanContext?.spanId;
}

export function idOf(span: ReadableSpan | undefined): string | undefined {
  return span?.spanContext().spanId;
}

/** The decisions on a span, as `policy verdict reason`. */
export function decisionsOf(span: ReadableSpan | undefined): string[] {
  return (span?.events ?? []).map(({ attributes }) =>
    ["policy", "verdict", "reason"]
      .map((key) => attributes?.[`weir.decision.${key}`])
      .filter((value) => value !== undefined)
      .join(" "),
  );
}
