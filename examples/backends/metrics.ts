import { metrics } from "@opentelemetry/api";
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto";
import { PrometheusExporter } from "@opentelemetry/exporter-prometheus";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";

// #region prometheus
/** Serves http://localhost:9464/metrics for Prometheus. */
export function serveMetrics(port = 9_464): MeterProvider {
  const provider = new MeterProvider({ readers: [new PrometheusExporter({ port })] });
  metrics.setGlobalMeterProvider(provider);
  return provider;
}
// #endregion

// #region otlp
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
