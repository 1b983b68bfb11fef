// #region tracing
import { context, propagation, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { traceContext } from "../incident/trace-context.js";

export const exporter = new InMemorySpanExporter();

// The toolkit finds it by itself, because it speaks to the global API. With the NodeSDK, that is all there is to do.
trace.setGlobalTracerProvider(
  new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }),
);
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
propagation.setGlobalPropagator(traceContext);
// #endregion

/** The spans that have ended, as a tree. */
export function traceTree(): string {
  const spans = exporter.getFinishedSpans();
  const lines: string[] = [];
  const add = (span: ReadableSpan, depth: number) => {
    const { attributes, events, name, duration } = span;
    const cause = attributes["weir.attempt.cause"];
    const why = cause === undefined ? "" : ` (${String(cause)})`;
    const tookMs = Math.round(duration[0] * 1_000 + duration[1] / 1e6);
    // A wait is a time in which the call above it stood still. It has no status.
    const status = attributes["rpc.status_code"] ?? `${tookMs} ms`;
    lines.push(`${"  ".repeat(depth)}${name}${why}: ${String(status)}`);
    for (const { attributes: decision = {} } of events) {
      const said = ["policy", "verdict", "reason"].map((key) => decision[`weir.decision.${key}`]);
      const words = decision["weir.decision.detail"] ?? said.filter((word) => word).join(" ");
      lines.push(`${"  ".repeat(depth + 1)}· ${String(words)}`);
    }
    const { spanId } = span.spanContext();
    for (const child of spans)
      if (child.parentSpanContext?.spanId === spanId) add(child, depth + 1);
  };
  for (const span of spans) if (span.parentSpanContext === undefined) add(span, 1);
  return lines.join("\n");
}
