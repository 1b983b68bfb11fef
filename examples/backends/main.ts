// A service whose traces go out by OTLP and whose metrics Prometheus can scrape. The viewer of the toolkit stands in for
// Jaeger, and one request for Prometheus.
import { createServer } from "node:net";
import { createWeir } from "grpc-weir";
import { traceViewer } from "grpc-weir/viewer";
import { answer, inventoryClient, startInventory } from "../shop.js";
import { serveMetrics } from "./prometheus.js";
import { sendTraces } from "./traces.js";

const viewer = await traceViewer({ port: 0, otlp: { grpcPort: 0, httpPort: 0 } });
const tracing = sendTraces("shop", viewer.otlp?.grpc);
const port = await freePort();
const metering = serveMetrics(port);

const weir = createWeir();
const server = await startInventory(
  { getStock: ({ request }, callback) => callback(null, { sku: request.sku, quantity: 42 }) },
  weir.server({ admission: {} }),
);
const client = inventoryClient(server, weir.client());
for (let call = 0; call < 3; call += 1) {
  await answer((done) => client.getStock({ sku: "boots" }, done));
}

console.log("what Prometheus reads:");
const page = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
for (const line of page.split("\n").filter((text) => text.startsWith("weir_calls_total"))) {
  console.log(`  ${line}`);
}

await tracing.shutdown();
const seen = await (await fetch(`${viewer.url}/api/calls`)).text();
console.log(`calls whose traces have arrived: ${/"total":(\d+)/.exec(seen)?.[1]}`);

client.close();
server.stop();
weir.close();
await metering.shutdown();
await viewer.close();

/** A port that nobody listens at. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer().once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() =>
        resolve(typeof address === "object" && address !== null ? address.port : 0),
      );
    });
  });
}
