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
    const { attributes, events, name } = span;
    const cause = attributes["weir.attempt.cause"];
    const why = cause === undefined ? "" : ` (${String(cause)})`;
    const status = String(attributes["rpc.status_code"]);
    lines.push(`${"  ".repeat(depth)}${name}${why}: ${status}`);
    for (const { attributes: decision = {} } of events) {
      const said = ["policy", "verdict", "reason"].map((key) => decision[`weir.decision.${key}`]);
      lines.push(
        `${"  ".repeat(depth + 1)}· ${said.filter((word) => word !== undefined).join(" ")}`,
      );
    }
    const { spanId } = span.spanContext();
    for (const child of spans)
      if (child.parentSpanContext?.spanId === spanId) add(child, depth + 1);
  };
  for (const span of spans) if (span.parentSpanContext === undefined) add(span, 1);
  return lines.join("\n");
}
