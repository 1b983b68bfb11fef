import { setTimeout as sleep } from "node:timers/promises";
import { Server, status as Status } from "@grpc/grpc-js";
import {
  type InventoryServiceServer,
  InventoryServiceService,
  type ReserveResponse,
} from "../gen/demo/shop/v1/inventory.js";
import type { Hop } from "./hop.js";
import type { Conditions } from "./messages.js";
import { fate, inventorySlots } from "./script.js";
import { Slots } from "./slots.js";

/** The service that the incident happens to. The same handler in all ways. */
export function inventoryServer(hop: Hop): {
  readonly server: Server;
  become(conditions: Conditions): void;
} {
  let now: Pick<Conditions, "failing" | "serviceMs"> = { serviceMs: 0, failing: 0 };
  let left = 1_000_000;
  // A pool of its own, as for a database. No server option tells of it.
  const slots = new Slots(inventorySlots);
  const reserved = new Map<string, ReserveResponse>();
  const asked = new Map<string, number>();

  async function reserve(
    orderId: string,
    quantity: number,
    gone: AbortSignal,
  ): Promise<ReserveResponse> {
    const giveBack = await slots.take();
    try {
      // No work for callers who have stopped waiting.
      await sleep(now.serviceMs * (0.8 + 0.4 * fate(orderId)), undefined, { signal: gone });
      const known = reserved.get(orderId);
      if (known !== undefined) return known;
      left -= quantity;
      const reservation = { reservationId: `reservation-${orderId}`, left };
      reserved.set(orderId, reservation);
      return reservation;
    } finally {
      giveBack();
    }
  }

  const server = new Server(hop.server());
  server.addService(InventoryServiceService, {
    reserve(call, callback) {
      const { orderId, quantity } = call.request;
      const times = (asked.get(orderId) ?? 0) + 1;
      asked.set(orderId, times);
      if (fate(`${orderId} ${times}`) < now.failing) {
        callback({ code: Status.UNAVAILABLE, details: "the shelf is being repaired" });
        return;
      }
      const gone = new AbortController();
      call.once("cancelled", () => gone.abort());
      reserve(orderId, quantity, gone.signal).then(
        (reservation) => callback(null, reservation),
        () => callback({ code: Status.CANCELLED, details: "the caller has gone" }),
      );
    },
  } satisfies Pick<InventoryServiceServer, "reserve">);

  return {
    server,
    become: (conditions) => {
      now = conditions;
    },
  };
}
