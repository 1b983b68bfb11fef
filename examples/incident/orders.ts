import { credentials, Metadata, Server } from "@grpc/grpc-js";
import { InventoryServiceClient } from "../gen/demo/shop/v1/inventory.js";
import { type OrdersServiceServer, OrdersServiceService } from "../gen/demo/shop/v1/orders.js";
import type { Hop } from "./hop.js";

/** Places orders: it reserves the goods with inventory. */
export function ordersServer(hop: Hop, inventoryTarget: string): Server {
  const inventory = new InventoryServiceClient(
    inventoryTarget,
    credentials.createInsecure(),
    hop.client(),
  );
  const server = new Server(hop.server());
  server.addService(OrdersServiceService, {
    placeOrder(call, callback) {
      const { orderId, sku, quantity } = call.request;
      const goods = { orderId, sku, quantity };
      inventory.reserve(goods, new Metadata(), hop.callFor(call), (error, reserved) => {
        if (error !== null) callback(error);
        else callback(null, { orderId, reservationId: reserved.reservationId });
      });
    },
  } satisfies Pick<OrdersServiceServer, "placeOrder">);
  return server;
}
