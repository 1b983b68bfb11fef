import { type TextMapPropagator, trace } from "@opentelemetry/api";

/** W3C trace context, as much of it as the tests need. Every value of `traceparent` is kept. */
export const traceContext: TextMapPropagator = {
  inject(context, carrier, setter) {
    const span = trace.getSpanContext(context);
    if (span === undefined || /^0+$/.test(span.traceId)) return;
    const flags = span.traceFlags.toString(16).padStart(2, "0");
    setter.set(carrier, "traceparent", `00-${span.traceId}-${span.spanId}-${flags}`);
  },
  extract(context, carrier, getter) {
    const found = [getter.get(carrier, "traceparent") ?? []].flat();
    const [, traceId, spanId, flags] = found[0]?.split("-") ?? [];
    if (traceId === undefined || spanId === undefined || flags === undefined) return context;
    const traceFlags = Number.parseInt(flags, 16);
    return trace.setSpanContext(context, { traceId, spanId, traceFlags, isRemote: true });
  },
  fields: () => ["traceparent"],
};
