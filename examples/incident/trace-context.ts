import { isSpanContextValid, type TextMapPropagator, trace } from "@opentelemetry/api";

/**
 * W3C trace context. A program of your own takes `W3CTraceContextPropagator` from `@opentelemetry/core`; this
 * keeps the dependencies of the example few.
 */
export const traceContext: TextMapPropagator = {
  inject(context, carrier, setter) {
    const span = trace.getSpanContext(context);
    if (span === undefined || !isSpanContextValid(span)) return;
    const flags = span.traceFlags.toString(16).padStart(2, "0");
    setter.set(carrier, "traceparent", `00-${span.traceId}-${span.spanId}-${flags}`);
  },
  extract(context, carrier, getter) {
    const header = [getter.get(carrier, "traceparent") ?? []].flat()[0] ?? "";
    const [, traceId, spanId, flags] =
      /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(header) ?? [];
    if (traceId === undefined || spanId === undefined || flags === undefined) return context;
    const traceFlags = Number.parseInt(flags, 16);
    return trace.setSpanContext(context, { traceId, spanId, traceFlags, isRemote: true });
  },
  fields: () => ["traceparent"],
};
