// #region otlp
import { metrics } from "@opentelemetry/api";
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";

/** Sends metrics to the Collector, by OTLP over HTTP. */
export function sendMetrics(
  service: string,
  instance: string,
  url = "http://localhost:4318/v1/metrics",
): MeterProvider {
  const provider = new MeterProvider({
    resource: resourceFromAttributes({
      "service.name": service, // the label `job`
      "service.instance.id": instance, // the label `instance`
    }),
    readers: [
      new PeriodicExportingMetricReader({
        exporter: new OTLPMetricExporter({ url }),
        exportIntervalMillis: 15_000,
      }),
    ],
  });
  metrics.setGlobalMeterProvider(provider);
  return provider;
}
// #endregion
