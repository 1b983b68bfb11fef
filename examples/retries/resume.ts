import { once } from "node:events";
import { status } from "@grpc/grpc-js";
import type { Weir } from "grpc-weir";
import type { WatchStockRequest, WatchStockResponse } from "../gen/demo/shop/v1/inventory.js";
import { inventoryClient, startInventory } from "../shop.js";

/** A server that counts down from the number behind the article, and breaks after every second message. */
export async function resumedStock(weir: Weir): Promise<string> {
  let streams = 0;
  const server = await startInventory({
    watchStock: (call) => {
      streams += 1;
      const [sku = "", from = "5"] = call.request.sku.split("@");
      const next = Number(from);
      const last = Math.max(next - 1, 0);
      for (let quantity = next; quantity >= last; quantity -= 1) call.write({ sku, quantity });
      if (last === 0) call.end();
      else call.emit("error", { code: status.UNAVAILABLE, details: "a node was replaced" });
    },
  });
  // #region resume
  const client = inventoryClient(
    server,
    weir.client({
      retry: {
        maxAttempts: 4,
        backoff: { baseMs: 20 },
        resume: {
          // The position of each message.
          token: (message) => (message as WatchStockResponse).quantity,
          // The request that continues behind that position.
          request: (first, token) => ({
            ...(first as WatchStockRequest),
            sku: `boots@${Number(token) - 1}`,
          }),
        },
      },
    }),
  );
  // #endregion
  const stream = client.watchStock({ sku: "boots", maxUpdates: 0 });
  const quantities: number[] = [];
  stream.on("data", ({ quantity }: WatchStockResponse) => quantities.push(quantity));
  await once(stream, "end");
  client.close();
  server.stop();
  return `${quantities.join(", ")} over ${streams} attempts`;
}
