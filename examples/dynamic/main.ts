// The toolkit with a client and a server that are made of a .proto file at run time, without generated code.
import { fileURLToPath } from "node:url";
import {
  type Client,
  type ClientReadableStream,
  credentials,
  Metadata,
  makeClientConstructor,
  Server,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type ServiceError,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { createWeir, currentCall, type Priority, priorityKey } from "grpc-weir";
import { methodRegistry } from "grpc-weir/client";
import { answer, listen } from "../shop.js";

interface Stock {
  readonly sku: string;
  readonly quantity: number;
}

type Done = (error: ServiceError | null, response: Stock) => void;

/** What of the client is used here: proto-loader makes no types. */
interface InventoryClient extends Client {
  getStock(request: { sku: string }, done: Done): void;
  getStock(request: { sku: string }, metadata: Metadata, done: Done): void;
  watchStock(request: { sku: string }, metadata: Metadata): ClientReadableStream<Stock>;
}

// The compiled program stands in build/examples/dynamic.
const protos = fileURLToPath(new URL("../../../proto", import.meta.url));
// #region load
const definition = loadSync("demo/shop/v1/inventory.proto", { includeDirs: [protos] });
const service = definition["demo.shop.v1.InventoryService"] as ServiceDefinition;
const Inventory = makeClientConstructor(service, "InventoryService");
// #endregion

const weir = createWeir();
let asked = 0;

const server = new Server(weir.server({ admission: { limit: 100 } }));
server.addService(service, {
  getStock(call: ServerUnaryCall<{ sku: string }, Stock>, callback: sendUnaryData<Stock>) {
    asked += 1;
    // #region handler
    // What the caller has said in its metadata, and what it has left of its deadline.
    const caller = currentCall();
    const attempt = 1 + (caller?.previousAttempts ?? 0);
    const leftMs = Math.round(caller?.remainingMs() ?? 0);
    // #endregion
    console.log(
      `  server: GetStock, priority ${caller?.priority}, attempt ${attempt}, ${leftMs} ms left`,
    );
    if (asked === 1) callback({ code: status.UNAVAILABLE, details: "the shelf is being repaired" });
    else callback(null, { sku: call.request.sku, quantity: 7 });
  },
  watchStock(call: ServerWritableStream<{ sku: string }, Stock>) {
    console.log(`  server: WatchStock, priority ${currentCall()?.priority}`);
    for (const quantity of [7, 6, 5]) call.write({ sku: call.request.sku, quantity });
    call.end();
  },
});

function priorityOf(priority: Priority): Metadata {
  const metadata = new Metadata();
  metadata.set(priorityKey, priority);
  return metadata;
}

const listening = await listen(server);
// #region client
const client = new Inventory(
  listening.target,
  credentials.createInsecure(),
  weir.client({
    deadline: { defaultMs: 2_000 },
    // proto-loader keeps `idempotency_level`, so the schema says what may be tried again.
    idempotency: methodRegistry(definition),
  }),
) as Client as InventoryClient;
// #endregion

console.log("a call of high priority, whose first attempt fails:");
const stock = await answer<Stock>((done) =>
  client.getStock({ sku: "boots" }, priorityOf("high"), done),
);
console.log(`  client: ${stock.quantity} ${stock.sku}`);

console.log("one that names no priority:");
await answer<Stock>((done) => client.getStock({ sku: "boots" }, done));

console.log("a stream of low priority:");
const updates: AsyncIterable<Stock> = client.watchStock({ sku: "boots" }, priorityOf("low"));
for await (const { quantity } of updates) console.log(`  client: ${quantity} left`);

client.close();
listening.stop();
weir.close();
