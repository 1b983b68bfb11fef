import type { ExportTraceServiceRequest } from "../../gen/opentelemetry/proto/collector/trace/v1/trace_service.js";
import {
  Status_StatusCode as Code,
  Span_SpanKind as Kind,
  type Span,
} from "../../gen/opentelemetry/proto/trace/v1/trace.js";
import type { SpanView } from "../api.js";
import { keptText } from "../attributes.js";
import { maxEvents } from "../span.js";
import { attributesOf, epochMs, serviceOf } from "./values.js";

export interface ReceivedSpans {
  readonly spans: readonly SpanView[];
  /** Spans without a valid id of the trace or of the span. */
  readonly rejected: number;
}

export function spansOf(request: ExportTraceServiceRequest): ReceivedSpans {
  const spans: SpanView[] = [];
  let rejected = 0;
  for (const { resource, scopeSpans } of request.resourceSpans) {
    const service = serviceOf(resource);
    for (const { scope, spans: sent } of scopeSpans) {
      const scopeName = keptText(scope?.name ?? "");
      for (const span of sent) {
        const view = viewOf(span, service, scopeName);
        if (view === undefined) rejected += 1;
        else spans.push(view);
      }
    }
  }
  return { spans, rejected };
}

function viewOf(span: Span, service: string, scope: string): SpanView | undefined {
  const traceId = idOf(span.traceId, 16);
  const spanId = idOf(span.spanId, 8);
  if (traceId === undefined || spanId === undefined) return undefined;
  const parentSpanId = idOf(span.parentSpanId, 8);
  const startMs = epochMs(span.startTimeUnixNano);
  const message = span.status?.message ?? "";
  return {
    traceId,
    spanId,
    ...(parentSpanId === undefined ? {} : { parentSpanId }),
    name: keptText(span.name),
    kind: kinds.get(span.kind) ?? "internal",
    service,
    scope,
    startMs,
    endMs: Math.max(startMs, epochMs(span.endTimeUnixNano)),
    status: statuses.get(span.status?.code ?? Code.STATUS_CODE_UNSET) ?? "unset",
    ...(message === "" ? {} : { statusMessage: keptText(message) }),
    attributes: attributesOf(span.attributes),
    events: span.events.slice(0, maxEvents).map((event) => ({
      name: keptText(event.name),
      atMs: epochMs(event.timeUnixNano),
      attributes: attributesOf(event.attributes),
    })),
  };
}

const kinds = new Map<Kind, SpanView["kind"]>([
  [Kind.SPAN_KIND_CLIENT, "client"],
  [Kind.SPAN_KIND_SERVER, "server"],
  [Kind.SPAN_KIND_PRODUCER, "producer"],
  [Kind.SPAN_KIND_CONSUMER, "consumer"],
]);

const statuses = new Map<Code, SpanView["status"]>([
  [Code.STATUS_CODE_OK, "ok"],
  [Code.STATUS_CODE_ERROR, "error"],
]);

/** An id in hexadecimal; `undefined` for one of another length, or that is all zeros. */
function idOf(bytes: Buffer, length: number): string | undefined {
  if (bytes.length !== length || bytes.every((byte) => byte === 0)) return undefined;
  return bytes.toString("hex");
}
