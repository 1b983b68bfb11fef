import { status } from "@grpc/grpc-js";
import type { Weir } from "grpc-weir";
import type { GetStockResponse } from "../gen/demo/shop/v1/inventory.js";
import { answer, inventoryClient, startInventory } from "../shop.js";

/** A replica that lags behind: it does not know the article until it is asked for the third time. */
export async function judgedStock(weir: Weir): Promise<string> {
  let asked = 0;
  const server = await startInventory({
    getStock: ({ request }, callback) => {
      asked += 1;
      callback(null, { sku: request.sku, quantity: asked < 3 ? -1 : 42 });
    },
  });
  // #region judgement
  const policy = {
    retry: {
      idempotent: true,
      backoff: { baseMs: 20 },
      // About a failure. Replaces `codes`; the origin and idempotency must still allow the retry.
      retryStatus: ({ code, details }: { code: status; details: string }) =>
        code === status.UNAVAILABLE && !details.includes("maintenance"),
      // About an OK. When no attempt is left, the caller gets the response.
      retryResponse: (response: unknown) => (response as GetStockResponse).quantity < 0,
    },
  };
  const client = inventoryClient(server, weir.client(policy));
  // #endregion
  const { quantity } = await answer<GetStockResponse>((done) =>
    client.getStock({ sku: "boots" }, done),
  );
  client.close();
  server.stop();
  return `${quantity} after ${asked} attempts`;
}
