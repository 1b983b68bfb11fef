import type {
  ExportMetricsServiceRequest,
  ExportMetricsServiceResponse,
} from "../../gen/opentelemetry/proto/collector/metrics/v1/metrics_service.js";
import type {
  ExportTraceServiceRequest,
  ExportTraceServiceResponse,
} from "../../gen/opentelemetry/proto/collector/trace/v1/trace_service.js";
import type { Recorder } from "../recorder.js";
import { gaugesOf } from "./gauges.js";
import { spansOf } from "./spans.js";

/** What one message may have, unzipped; as much as the collector of OpenTelemetry takes. */
export const maxMessageBytes = 20 * 1024 * 1024;

/** Takes the spans, and says how many of them it could not. */
export function receiveTraces(
  recorder: Recorder,
  request: ExportTraceServiceRequest,
): ExportTraceServiceResponse {
  const { spans, rejected } = spansOf(request);
  for (const span of spans) recorder.record(span);
  if (rejected === 0) return { partialSuccess: undefined };
  const errorMessage = "A span has an id of its trace of 16 bytes, and one of its own of 8 bytes.";
  return { partialSuccess: { rejectedSpans: BigInt(rejected), errorMessage } };
}

/** Takes the gauges of the toolkit, and reads past all other metrics. */
export function receiveMetrics(
  recorder: Recorder,
  request: ExportMetricsServiceRequest,
): ExportMetricsServiceResponse {
  recorder.setGauges(gaugesOf(request));
  return { partialSuccess: undefined };
}
