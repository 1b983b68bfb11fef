import { setTimeout as sleep } from "node:timers/promises";
// #region server
import { Server } from "@grpc/grpc-js";
import { currentCall, detached, type ServerPolicy } from "grpc-weir";
import type { InventoryServiceClient } from "../gen/demo/shop/v1/inventory.js";
import { type OrdersServiceServer, OrdersServiceService } from "../gen/demo/shop/v1/orders.js";
import { weir } from "./client.js";

/** For every server of the process: how much it can do at once is learnt. */
export const serverPolicy: ServerPolicy = { admission: {} };

export function ordersServer(inventory: InventoryServiceClient): Server {
  const server = new Server(weir.server(serverPolicy));
  server.addService(OrdersServiceService, {
    // #region handler
    placeOrder(call, callback) {
      const { orderId, sku, quantity } = call.request;
      const caller = currentCall();
      console.log(`  ${orderId} is ${caller?.priority}, ${leftOf(caller?.remainingMs())} left`);

      // What is called from here has the caller's deadline, priority and cancellation.
      inventory.reserve({ orderId, sku, quantity }, (error, reserved) => {
        if (error !== null) callback(error);
        else callback(null, { orderId, reservationId: reserved.reservationId });
      });

      // What is not gRPC takes the signal, and what must outlive the answer is detached.
      warmUpPrices(sku, caller?.signal).catch(() => {});
      detached(() => writeAuditRecord(orderId)).catch(console.error);
    },
    // #endregion
  } satisfies Pick<OrdersServiceServer, "placeOrder">);
  return server;
}
// #endregion

function leftOf(ms = Number.POSITIVE_INFINITY): string {
  return ms === Number.POSITIVE_INFINITY ? "all the time" : `${(ms / 1_000).toFixed(1)} s`;
}

async function warmUpPrices(_sku: string, signal: AbortSignal | undefined): Promise<void> {
  await sleep(1, undefined, signal === undefined ? {} : { signal });
}

async function writeAuditRecord(orderId: string): Promise<void> {
  await sleep(20);
  const outside = currentCall() === undefined ? "outside" : "inside";
  console.log(`  ${orderId} is in the audit, written ${outside} of the call`);
}
