// Two services, a call with a priority, its trace, a refused call, and the hand on the policies.
import { credentials, Metadata, status } from "@grpc/grpc-js";
import { isServiceError, priorityKey, rejectionOf } from "grpc-weir";
import type { GetStockResponse } from "../gen/demo/shop/v1/inventory.js";
import { OrdersServiceClient, type PlaceOrderResponse } from "../gen/demo/shop/v1/orders.js";
import { answer, inventoryClient, listen, startInventory } from "../shop.js";
import { connectInventory, weir } from "./client.js";
import { ordersServer } from "./server.js";
import { clientOptions, serverOptions } from "./standalone.js";
import { traceTree } from "./tracing.js";

const inventoryService = await startInventory(
  {
    reserve: ({ request, metadata }, callback) => {
      // The first attempt of each order meets a server that is not ready.
      if (metadata.get("grpc-previous-rpc-attempts").length === 0) {
        callback({ code: status.UNAVAILABLE, details: "warming up" });
      } else callback(null, { reservationId: `reservation-${request.orderId}`, left: 41 });
    },
    getStock: ({ request }, callback) => callback(null, { sku: request.sku, quantity: 42 }),
  },
  serverOptions(),
);
const inventory = connectInventory(inventoryService.target);
const ordersService = await listen(ordersServer(inventory));
const orders = new OrdersServiceClient(
  ordersService.target,
  credentials.createInsecure(),
  weir.client(),
);

const order = (orderId: string) => ({ orderId, sku: "boots", quantity: 1 });

console.log("an order:");
// #region priority
const metadata = new Metadata();
metadata.set(priorityKey, "high"); // or critical, normal, low
const placed = await answer<PlaceOrderResponse>((done) =>
  orders.placeOrder(order("order-1"), metadata, { deadline: Date.now() + 3_000 }, done),
);
// #endregion
console.log(`  ${placed.reservationId}\n\nits trace:\n${traceTree()}`);

console.log("\nanother order:");
// #region with
// The same as call options, for code that does not hold the metadata.
const options = weir.with({ deadline: Date.now() + 3_000 }, { priority: "low" });
await answer((done) => orders.placeOrder(order("order-2"), new Metadata(), options, done));
// #endregion

const own = inventoryClient(inventoryService, clientOptions());
const stock = await answer<GetStockResponse>((done) => own.getStock({ sku: "boots" }, done));
console.log(`\na client with its own list of interceptors: ${stock.quantity} ${stock.sku}`);

console.log("\ninventory is gone:");
inventoryService.stop();
for (const call of [1, 2, 3]) {
  // Its breaker would wait for more evidence: one service that cannot be reached is one event.
  if (call === 2) {
    weir.policy("breaker").forceOpen();
    console.log("\nall breakers are forced open:");
  }
  // #region rejection
  try {
    await answer((done) => inventory.reserve(order("order-3"), done));
  } catch (error) {
    if (!isServiceError(error)) throw error;
    const rejection = rejectionOf(error);
    if (rejection === undefined) console.log(`  failed: ${status[error.code]}`);
    else {
      const { reason, local, retryAfterMs } = rejection;
      const who = local ? "this process" : "the server";
      // Without a time, nobody has said that another try makes sense.
      const again =
        retryAfterMs === undefined ? "" : `, worth another try in ${Math.ceil(retryAfterMs)} ms`;
      console.log(`  refused by ${who}: ${reason}${again}`);
    }
  }
  // #endregion
}

// #region control
weir.policy("breaker").mode = "observe"; // it goes on counting and stops refusing
const { policies } = weir.snapshot();
console.log(`\nthe breakers now:\n${JSON.stringify(policies.breaker, undefined, 2)}`);
weir.close(); // ends what waits, takes on nothing more
// #endregion

ordersService.stop();
for (const client of [orders, inventory, own]) client.close();
