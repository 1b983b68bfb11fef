// A key that is the same for all attempts of a call, and a server that runs a call once for each key.
import { Metadata } from "@grpc/grpc-js";
import { createWeir } from "grpc-weir";
import type { ReserveRequest, ReserveResponse } from "../gen/demo/shop/v1/inventory.js";
import { answer, inventoryClient, startInventory } from "../shop.js";

const done = new Map<string, ReserveResponse>();
let left = 10;
const server = await startInventory({
  reserve: ({ request, metadata }, callback) => {
    const key = String(metadata.get("idempotency-key")[0] ?? "no key");
    const attempt = metadata.get("grpc-previous-rpc-attempts").length === 0 ? "first" : "retry";
    console.log(`  server: ${attempt}, key ${key.slice(0, 18)}`);
    const known = done.get(key);
    if (known !== undefined) {
      callback(null, known);
      return;
    }
    left -= request.quantity;
    const reservation = { reservationId: `reservation-${request.orderId}`, left };
    done.set(key, reservation);
    // The answer to the first attempt comes too late.
    setTimeout(() => callback(null, reservation), 600);
  },
});

const weir = createWeir();
// #region key
const client = inventoryClient(
  server,
  weir.client({
    timeouts: { attemptMs: 250 },
    methods: {
      "demo.shop.v1.InventoryService/Reserve": {
        // The server keeps answers by key, so a call with one may be retried.
        idempotencyKey: { source: "uuid", honoured: true },
      },
    },
  }),
);
// #endregion
// #region request-key
const byOrder = inventoryClient(
  server,
  weir.client({
    idempotencyKey: {
      // The same order has the same key, from whichever process and whenever.
      source: (request) => `order:${(request as ReserveRequest).orderId}`,
      honoured: true,
    },
  }),
);
// #endregion

const boots = { orderId: "order-1", sku: "boots", quantity: 1 };
console.log("a key for each call:");
const first = await answer<ReserveResponse>((end) => client.reserve(boots, end));
console.log(`  ${first.left} left: reserved once, asked twice`);

console.log("a key out of the request:");
for (const _ of [1, 2]) {
  const order = { ...boots, orderId: "order-2" };
  const { left: now } = await answer<ReserveResponse>((end) => byOrder.reserve(order, end));
  console.log(`  ${now} left`);
}

console.log("a key of the caller's own:");
const metadata = new Metadata();
metadata.set("idempotency-key", "checkout-7");
const own = await answer<ReserveResponse>((end) => client.reserve(boots, metadata, end));
console.log(`  ${own.left} left`);

for (const each of [client, byOrder]) each.close();
server.stop();
