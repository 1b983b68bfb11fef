import { ExportMetricsServiceRequest } from "../../gen/opentelemetry/proto/collector/metrics/v1/metrics_service.js";
import { ExportTraceServiceRequest } from "../../gen/opentelemetry/proto/collector/trace/v1/trace_service.js";

/**
 * Reads the JSON of OTLP, which is that of Protobuf but for the ids of traces and spans: they are hexadecimal.
 *
 * @throws what is wrong with the text.
 * @see https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
 */
export function tracesFromJson(text: string): ExportTraceServiceRequest {
  return ExportTraceServiceRequest.fromJSON(read(text, "resourceSpans"));
}

/** The same for metrics. */
export function metricsFromJson(text: string): ExportMetricsServiceRequest {
  return ExportMetricsServiceRequest.fromJSON(read(text, "resourceMetrics"));
}

function read(text: string, list: string): object {
  const message: unknown = JSON.parse(text, withoutHex);
  if (typeof message !== "object" || message === null || Array.isArray(message)) {
    throw new TypeError(`the message is an object with ${list}`);
  }
  const sent: unknown = Reflect.get(message, list);
  if (sent !== undefined && !Array.isArray(sent)) throw new TypeError(`${list} is a list`);
  return message;
}

/** The generated code takes all bytes for base64. Keys of attributes are no keys of the JSON, so only ids are meant. */
function withoutHex(key: string, value: unknown): unknown {
  if (key !== "traceId" && key !== "spanId" && key !== "parentSpanId") return value;
  if (value === null || value === "") return "";
  if (typeof value !== "string" || !/^([0-9a-f]{2})+$/i.test(value)) {
    throw new TypeError(`${key} is hexadecimal`);
  }
  return Buffer.from(value, "hex").toString("base64");
}
