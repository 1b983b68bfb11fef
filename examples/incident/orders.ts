import { credentials, Metadata, Server } from "@grpc/grpc-js";
import { InventoryServiceClient } from "../gen/demo/shop/v1/inventory.js";
import { type OrdersServiceServer, OrdersServiceService } from "../gen/demo/shop/v1/orders.js";
import type { Hop } from "./hop.js";

/** Places orders: it reserves the goods with inventory, and is the one that tries again. */
export function ordersServer(hop: Hop, inventoryTarget: string): Server {
  const { stretch } = hop.script;
  const inventory = new InventoryServiceClient(
    inventoryTarget,
    credentials.createInsecure(),
    hop.client({
      // The waits of four attempts together are longer than a restart takes.
      retry: {
        maxAttempts: 4,
        // For each call that orders makes, inventory bears half an attempt more, and no storm of them.
        budget: { ratio: 0.5 },
        backoff: { baseMs: 100 * stretch, maxMs: 400 * stretch, jitter: "equal" },
      },
      breaker: {
        // Under load it is the low priorities that inventory refuses, and that says nothing of the others.
        key: ({ target, priority }) => `${target} ${priority}`,
        consecutiveFailures: false,
        failureRate: 0.8,
        windowMs: 1_000 * stretch,
        openMs: 200 * stretch,
      },
      methods: {
        // Reserving twice for one order id is reserving once.
        "demo.shop.v1.InventoryService/Reserve": { retry: { idempotent: true } },
      },
    }),
  );
  const server = new Server(hop.server({ admission: { limit: 200 } }));
  server.addService(OrdersServiceService, {
    placeOrder(call, callback) {
      const { orderId, sku, quantity } = call.request;
      inventory.reserve(
        { orderId, sku, quantity },
        new Metadata(),
        hop.call(),
        (error, reserved) => {
          if (error !== null) callback(error);
          else callback(null, { orderId, reservationId: reserved.reservationId });
        },
      );
    },
  } satisfies Pick<OrdersServiceServer, "placeOrder">);
  return server;
}
