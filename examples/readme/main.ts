// Runs the example of the README: two services, a call with a priority, and what the second service sees of it.
import { credentials, status } from "@grpc/grpc-js";
import { currentCall } from "grpc-weir";
import { OrdersServiceClient, type PlaceOrderResponse } from "../gen/demo/shop/v1/orders.js";
import { answer, listen, startInventory } from "../shop.js";
import { important, ordersServer, weir } from "./orders.js";

const inventory = await startInventory(
  {
    reserve: ({ request, metadata }, callback) => {
      // The first attempt meets a server that is not ready.
      if (metadata.get("grpc-previous-rpc-attempts").length === 0) {
        callback({ code: status.UNAVAILABLE, details: "warming up" });
        return;
      }
      const caller = currentCall();
      console.log(
        `Reserve: priority ${caller?.priority}, attempt ${(caller?.previousAttempts ?? 0) + 1}`,
      );
      callback(null, { reservationId: `reservation-${request.orderId}`, left: 41 });
    },
  },
  weir.server(),
);
const orders = await listen(ordersServer(inventory.target));
const client = new OrdersServiceClient(orders.target, credentials.createInsecure(), weir.client());
const order = { orderId: "order-1", sku: "boots", quantity: 1 };
const placed = await answer<PlaceOrderResponse>((done) =>
  client.placeOrder(order, important, { deadline: Date.now() + 3_000 }, done),
);
console.log(`PlaceOrder: ${placed.reservationId}`);

client.close();
weir.close();
orders.stop();
inventory.stop();
