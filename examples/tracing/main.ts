// Traces of calls that were slow, or refused, each for another reason, as a person reads them in a terminal.
import { Metadata, status } from "@grpc/grpc-js";
import { context, propagation, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { resourceFromAttributes } from "@opentelemetry/resources";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { createWeir, isServiceError } from "grpc-weir";
import { consoleTree } from "grpc-weir/viewer";
import type { InventoryServiceClient } from "../gen/demo/shop/v1/inventory.js";
import { traceContext } from "../incident/trace-context.js";
import { answer, inventoryClient, startInventory } from "../shop.js";

const exporter = new InMemorySpanExporter();
const resource = resourceFromAttributes({ "service.name": "shop" });
const spanProcessors = [new SimpleSpanProcessor(exporter)];
trace.setGlobalTracerProvider(new BasicTracerProvider({ resource, spanProcessors }));
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
propagation.setGlobalPropagator(traceContext);

const weir = createWeir();
/** Reserves one order at a time, in 60 ms. Skis are not ready for the first attempt. */
const small = await startInventory(
  {
    reserve: ({ request, metadata }, callback) => {
      const first = metadata.get("grpc-previous-rpc-attempts").length === 0;
      if (request.sku === "skis" && first) {
        callback({ code: status.UNAVAILABLE, details: "warming up" });
      } else setTimeout(() => callback(null, { reservationId: request.orderId, left: 41 }), 60);
    },
  },
  weir.server({ admission: { limit: 1, maxQueued: 1 } }),
);
let asked = 0;
/** Meets a pause at the second question. */
const uneven = await startInventory(
  {
    getStock: ({ request }, callback) => {
      asked += 1;
      setTimeout(() => callback(null, { sku: request.sku, quantity: 42 }), asked === 2 ? 400 : 20);
    },
  },
  weir.server(),
);

const plain = inventoryClient(small, weir.client());
const narrow = inventoryClient(
  small,
  weir.client({ bulkhead: { maxConcurrent: 1, maxQueued: 0 } }),
);
const hedged = inventoryClient(
  uneven,
  weir.client({ retry: { idempotent: true }, hedge: { delayMs: 50 } }),
);

function reserve(client: InventoryServiceClient, sku = "boots", withinMs = 3_000): Promise<string> {
  const order = { orderId: "1", sku, quantity: 1 };
  const options = { deadline: Date.now() + withinMs };
  return answer((done) => client.reserve(order, new Metadata(), options, done)).then(
    () => "OK",
    (error: unknown) => {
      if (!isServiceError(error)) throw error;
      return error.message;
    },
  );
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Makes a call, and prints its trace. */
async function show(title: string, call: () => Promise<unknown>): Promise<void> {
  exporter.reset();
  const ended = await call();
  // The spans of a server, and of attempts that lost, may end after the call.
  await pause(500);
  const spans = exporter.getFinishedSpans();
  const startMs = ({ startTime: [seconds, nanos] }: ReadableSpan) => seconds * 1_000 + nanos / 1e6;
  // Those that keep the server busy began before it.
  const [root] = spans
    .filter(({ parentSpanContext }) => parentSpanContext === undefined)
    .sort((a, b) => startMs(b) - startMs(a));
  const { traceId } = root?.spanContext() ?? {};
  const ofTrace = spans.filter((span) => span.spanContext().traceId === traceId);
  console.log(`${title}\n${consoleTree(ofTrace, { width: 110, colors: false })}`);
  console.log(typeof ended === "string" ? `ended: ${ended}\n` : "");
}

await show("the first call on a channel, whose first attempt failed", () => reserve(plain, "skis"));

/** Takes the one slot of the server, before the call that is shown. */
const busy = (calls: number) => {
  for (let call = 0; call < calls; call += 1) void reserve(plain);
};
busy(1);
await show("a call that waited in the queue of the server", () => reserve(plain));

busy(1);
await show("a call whose time was over before its turn came", () => reserve(plain, "boots", 40));

busy(2);
await show("a call that the server refused at first", () => reserve(plain));

void reserve(narrow);
await show("a call that its own process refused", () => reserve(narrow));

await answer((done) => hedged.getStock({ sku: "boots" }, done));
await show("a call whose first attempt was slow, and was overtaken", () =>
  answer((done) => hedged.getStock({ sku: "boots" }, done)),
);

for (const client of [plain, narrow, hedged]) client.close();
for (const server of [small, uneven]) server.stop();
