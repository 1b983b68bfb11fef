import type { ExportMetricsServiceRequest } from "../../gen/opentelemetry/proto/collector/metrics/v1/metrics_service.js";
import type { NumberDataPoint } from "../../gen/opentelemetry/proto/metrics/v1/metrics.js";
import type { Attributes } from "../api.js";
import { attributesOf, serviceOf } from "./values.js";

/** A reading of one of the toolkit's gauges. */
export interface GaugeReading {
  readonly name: GaugeName;
  readonly service: string;
  readonly attributes: Attributes;
  readonly value: number;
}

/** The metrics that the board shows. */
const gaugeNames = [
  "weir.queue.length",
  "weir.admission.limit",
  "weir.admission.running",
  "weir.breaker.state",
] as const;

export type GaugeName = (typeof gaugeNames)[number];

/** The readings of those metrics. Every other metric is read past. */
export function gaugesOf(request: ExportMetricsServiceRequest): GaugeReading[] {
  const readings: GaugeReading[] = [];
  for (const { resource, scopeMetrics } of request.resourceMetrics) {
    const service = serviceOf(resource);
    for (const { metrics } of scopeMetrics) {
      for (const { name: sent, gauge, sum } of metrics) {
        const name = gaugeNames.find((known) => known === sent);
        if (name === undefined) continue;
        for (const point of gauge?.dataPoints ?? sum?.dataPoints ?? []) {
          const value = numberIn(point);
          if (value === undefined) continue;
          readings.push({ name, service, attributes: attributesOf(point.attributes), value });
        }
      }
    }
  }
  return readings;
}

function numberIn({ asInt, asDouble }: NumberDataPoint): number | undefined {
  const value = asDouble ?? (asInt === undefined ? undefined : Number(asInt));
  return value !== undefined && Number.isFinite(value) ? value : undefined;
}
