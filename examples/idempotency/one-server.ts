// One server that keeps answers in its own memory, and clients that make their keys in three ways.
import { Metadata } from "@grpc/grpc-js";
import { createWeir } from "grpc-weir";
import {
  InventoryServiceService,
  type ReserveRequest,
  type ReserveResponse,
} from "../gen/demo/shop/v1/inventory.js";
import { answer, inventoryClient, startInventory } from "../shop.js";

export async function oneServer(): Promise<void> {
  const weir = createWeir();
  let left = 10;
  const server = await startInventory(
    {
      reserve: ({ request, metadata }, callback) => {
        console.log(
          `  server: runs the handler, key ${String(metadata.get("idempotency-key")[0])}`,
        );
        left -= request.quantity;
        // The first attempt has not the time to hear of it.
        setTimeout(() => {
          callback(null, { reservationId: `reservation-${request.orderId}`, left });
        }, 600);
      },
    },
    // #region memory
    weir.server({
      idempotency: {
        // Callers are told apart by who they are: nobody gets the answer of another.
        scope: ({ metadata }) => String(metadata.get("x-user")[0]),
        services: [InventoryServiceService],
        methods: { "demo.shop.v1.InventoryService/Reserve": {} },
      },
    }),
    // #endregion
  );

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
  const anna = (): Metadata => {
    const metadata = new Metadata();
    metadata.set("x-user", "anna");
    return metadata;
  };
  console.log("a key for each call:");
  const first = await answer<ReserveResponse>((end) => client.reserve(boots, anna(), end));
  console.log(`  ${first.left} left: reserved once, asked more than once`);

  console.log("a key out of the request:");
  for (const _ of [1, 2]) {
    const order = { ...boots, orderId: "order-2" };
    const { left: now } = await answer<ReserveResponse>((end) =>
      byOrder.reserve(order, anna(), end),
    );
    console.log(`  ${now} left`);
  }

  console.log("a key of the caller's own:");
  const metadata = anna();
  metadata.set("idempotency-key", "checkout-7");
  const own = await answer<ReserveResponse>((end) => client.reserve(boots, metadata, end));
  console.log(`  ${own.left} left`);

  for (const each of [client, byOrder]) each.close();
  weir.close();
  server.stop();
}
