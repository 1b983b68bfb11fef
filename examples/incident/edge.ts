import { credentials, Metadata, Server } from "@grpc/grpc-js";
import { trace } from "@opentelemetry/api";
import { type EdgeServiceServer, EdgeServiceService } from "../gen/demo/shop/v1/edge.js";
import { OrdersServiceClient } from "../gen/demo/shop/v1/orders.js";
import type { Hop } from "./hop.js";
import { orderIdAttribute } from "./messages.js";

/** What the shop's pages call. It passes the checkout on to orders. */
export function edgeServer(hop: Hop, ordersTarget: string): Server {
  const orders = new OrdersServiceClient(
    ordersTarget,
    credentials.createInsecure(),
    hop.client({
      // Orders retries what it calls. A second layer that does so too would multiply the attempts.
      retry: false,
      // What orders refuses or fails is inventory's doing, and orders has a breaker against that.
      breaker: false,
    }),
  );
  const server = new Server(
    // What is too much for the services behind is best refused here, before it has cost anything.
    hop.server({ admission: { limit: 12, maxQueued: 6, maxWaitMs: 100 * hop.script.stretch } }),
  );
  server.addService(EdgeServiceService, {
    checkout(call, callback) {
      const { orderId, sku, quantity } = call.request;
      // The toolkit's server span is active here: what is added to it shows in the trace.
      trace.getActiveSpan()?.setAttribute(orderIdAttribute, orderId);
      orders.placeOrder({ orderId, sku, quantity }, new Metadata(), hop.call(), (error, placed) => {
        if (error !== null) callback(error);
        else callback(null, { orderId, reservationId: placed.reservationId });
      });
    },
  } satisfies Pick<EdgeServiceServer, "checkout">);
  return server;
}
