import { credentials, Metadata, Server } from "@grpc/grpc-js";
import { trace } from "@opentelemetry/api";
import { type EdgeServiceServer, EdgeServiceService } from "../gen/demo/shop/v1/edge.js";
import { OrdersServiceClient } from "../gen/demo/shop/v1/orders.js";
import type { Hop } from "./hop.js";
import { orderIdAttribute } from "./messages.js";

/** What the shop's pages call. It passes the checkout on to orders. */
export function edgeServer(hop: Hop, ordersTarget: string): Server {
  const orders = new OrdersServiceClient(ordersTarget, credentials.createInsecure(), hop.client());
  const server = new Server(hop.server());
  server.addService(EdgeServiceService, {
    checkout(call, callback) {
      const { orderId, sku, quantity } = call.request;
      // The toolkit's server span is active here: what is added to it shows in the trace.
      trace.getActiveSpan()?.setAttribute(orderIdAttribute, orderId);
      const order = { orderId, sku, quantity };
      orders.placeOrder(order, new Metadata(), hop.callFor(call), (error, placed) => {
        if (error !== null) callback(error);
        else callback(null, { orderId, reservationId: placed.reservationId });
      });
    },
  } satisfies Pick<EdgeServiceServer, "checkout">);
  return server;
}
