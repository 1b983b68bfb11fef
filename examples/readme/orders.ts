// #region attach
import { credentials, Metadata, Server } from "@grpc/grpc-js";
import { createWeir, priorityKey } from "grpc-weir";
import { InventoryServiceClient } from "../gen/demo/shop/v1/inventory.js";
import { type OrdersServiceServer, OrdersServiceService } from "../gen/demo/shop/v1/orders.js";

export const weir = createWeir(); // one for the process

export function ordersServer(inventoryTarget: string): Server {
  // A client and a server as before. What is new is in their options.
  const insecure = credentials.createInsecure();
  const inventory = new InventoryServiceClient(inventoryTarget, insecure, weir.client());
  const server = new Server(weir.server({ admission: {} }));
  server.addService(OrdersServiceService, {
    placeOrder({ request: { orderId, sku, quantity } }, callback) {
      // Has the deadline, the priority and the cancellation of the call that is served.
      inventory.reserve({ orderId, sku, quantity }, (error, reserved) => {
        if (error !== null) callback(error);
        else callback(null, { orderId, reservationId: reserved.reservationId });
      });
    },
  } satisfies Pick<OrdersServiceServer, "placeOrder">);
  return server;
}

export const important = new Metadata();
important.set(priorityKey, "high"); // or critical, normal, low
// #endregion
