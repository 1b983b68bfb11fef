// One deadline through three services, and the bounds that a client sets on the parts of a call.
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { credentials, Metadata, Server, status } from "@grpc/grpc-js";
import { createWeir, currentCall, isServiceError, rejectionOf } from "grpc-weir";
import {
  OrdersServiceClient,
  type OrdersServiceServer,
  OrdersServiceService,
} from "../gen/demo/shop/v1/orders.js";
import { answer, inventoryClient, listen, startInventory } from "../shop.js";

const weir = createWeir();
const request = { orderId: "order-1", sku: "boots", quantity: 1 };
/** Opens the connections, so that they are not part of what is shown. */
const warmUp = { ...request, orderId: "order-0" };

const slow = await startInventory(
  {
    reserve: (call, callback) => {
      if (call.request.orderId === warmUp.orderId) {
        callback(null, { reservationId: "reservation-0", left: 9 });
        return;
      }
      const caller = currentCall();
      console.log(`  inventory: ${Math.round(caller?.remainingMs() ?? 0)} ms left`);
      const work = setTimeout(() => callback(null, { reservationId: "too late", left: 0 }), 5_000);
      caller?.signal.addEventListener("abort", () => {
        clearTimeout(work);
        console.log("  inventory: the caller has gone, so the work stops");
      });
    },
    // Two messages, and then silence.
    watchStock: (call) => {
      call.write({ sku: "boots", quantity: 2 });
      call.write({ sku: "boots", quantity: 1 });
    },
  },
  weir.server(),
);
const inventory = inventoryClient(slow, weir.client());

const orders = new Server(weir.server());
orders.addService(OrdersServiceService, {
  placeOrder: (call, callback) => {
    if (call.request.orderId !== warmUp.orderId)
      console.log(`  orders: ${Math.round(currentCall()?.remainingMs() ?? 0)} ms left`);
    // No deadline is given here: the caller's holds, less a margin in which this handler can still answer.
    inventory.reserve(call.request, (error, reserved) => {
      if (error !== null) callback(error);
      else callback(null, { orderId: "order-1", reservationId: reserved.reservationId });
    });
  },
} satisfies Pick<OrdersServiceServer, "placeOrder">);
const ordersService = await listen(orders);

// #region default
const caller = new OrdersServiceClient(
  ordersService.target,
  credentials.createInsecure(),
  weir.client({ deadline: { defaultMs: 500 } }),
);
// #endregion
const patient = { deadline: Date.now() + 10_000 };
await answer((done) => caller.placeOrder(warmUp, new Metadata(), patient, done));
console.log("a caller who waits for half a second:");
await tell(() => answer((done) => caller.placeOrder(request, done)));

console.log("a client that waits 150 ms for the first of an answer, twice:");
// #region timeouts
const bounded = inventoryClient(
  slow,
  weir.client({
    timeouts: {
      connectionMs: 1_000, //  a target that nobody can reach
      firstResponseMs: 150, // a server that does not begin to answer
      idleMs: 100, //          a stream that has gone silent
      totalMs: 2_000, //       the whole call, retries included
    },
    methods: {
      "demo.shop.v1.InventoryService/Reserve": { retry: { idempotent: true, maxAttempts: 2 } },
    },
  }),
);
// #endregion
await answer((done) => bounded.reserve(warmUp, done));
await tell(() => answer((done) => bounded.reserve(request, done)));

console.log("a stream that goes silent:");
await tell(async () => {
  const stream = bounded.watchStock({ sku: "boots", maxUpdates: 0 });
  stream.on("data", ({ quantity }) => console.log(`  ${quantity} left`));
  await once(stream, "end");
});

for (const client of [caller, inventory, bounded]) client.close();
for (const service of [ordersService, slow]) service.stop();

async function tell(run: () => Promise<unknown>): Promise<void> {
  const startMs = performance.now();
  await run().catch(async (error: unknown) => {
    if (!isServiceError(error)) throw error;
    const tookMs = Math.round(performance.now() - startMs);
    const reason = rejectionOf(error)?.reason ?? "no reason given";
    await sleep(100); // so that the services below have noticed
    console.log(`  caller: ${status[error.code]} (${reason}) after ${tookMs} ms`);
  });
}
