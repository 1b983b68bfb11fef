// What a dashboard of a shop would show: calls, retries and refusals, read from the metrics of the toolkit.
import { Metadata, status } from "@grpc/grpc-js";
// #region metrics
import { metrics } from "@opentelemetry/api";
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import { createWeir } from "grpc-weir";

// In a service an exporter for Prometheus or OTLP stands here.
const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 10_000 });

// The toolkit finds it by itself, because it speaks to the global API.
metrics.setGlobalMeterProvider(new MeterProvider({ readers: [reader] }));
const weir = createWeir();

// #endregion
import { answer, inventoryClient, startInventory } from "../shop.js";

let calls = 0;
const server = await startInventory(
  {
    getStock: ({ request }, callback) => {
      calls += 1;
      const { sku } = request;
      // Each third call fails, and is worth another try.
      if (calls % 3 === 0) callback({ code: status.UNAVAILABLE, details: "the shelf is locked" });
      else setTimeout(() => callback(null, { sku, quantity: 42 }), 20);
    },
  },
  weir.server({ admission: { limit: 2, maxQueued: 4 } }),
);
const client = inventoryClient(server, weir.client({ retry: { idempotent: true } }));

const getStock = (priority: "critical" | "normal" | "low") => {
  const options = weir.with({}, { priority });
  return answer((done) => client.getStock({ sku: "boots" }, new Metadata(), options, done));
};
const priorities = ["critical", "normal", "low"] as const;
await Promise.allSettled(
  Array.from({ length: 12 }, (_, index) => getStock(priorities[index % 3] ?? "normal")),
);

await reader.forceFlush();
const shown = ["weir.calls", "weir.attempts", "weir.refusals", "weir.queue.wait"];
for (const { scopeMetrics } of exporter.getMetrics()) {
  for (const { descriptor, dataPoints } of scopeMetrics.flatMap(({ metrics: all }) => all)) {
    if (!shown.includes(descriptor.name)) continue;
    console.log(descriptor.name);
    for (const { value, attributes } of dataPoints) {
      const count = typeof value === "number" ? value : `${value.count} waits, ${value.sum} s`;
      console.log(`  ${Object.values(attributes).join(", ")}: ${count}`);
    }
  }
}

client.close();
server.stop();
await reader.shutdown();
