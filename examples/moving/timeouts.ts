import { credentials } from "@grpc/grpc-js";
import { type GetStockResponse, InventoryServiceClient } from "../gen/demo/shop/v1/inventory.js";
import { answer } from "../shop.js";
import type { Way } from "./way.js";

const insecure = credentials.createInsecure();

// #region before
function withTimeout<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("timed out")), timeoutMs);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

/** Nobody waits for the call any more after 1 s. The server goes on with it. */
function stockBefore(client: InventoryServiceClient, sku: string): Promise<GetStockResponse> {
  return withTimeout(
    answer((done) => client.getStock({ sku }, done)),
    1_000,
  );
}

// #endregion

// #region after
import { createWeir } from "grpc-weir";

const weir = createWeir();
const options = weir.client({ deadline: { defaultMs: 1_000 }, retry: false });

/** After 1 s the call is cancelled, on this server and on those that it has called. */
function stockAfter(client: InventoryServiceClient, sku: string): Promise<GetStockResponse> {
  return answer((done) => client.getStock({ sku }, done));
}
// #endregion

export function before(target: string): Way {
  const client = new InventoryServiceClient(target, insecure);
  return { getStock: (sku) => stockBefore(client, sku), close: () => client.close() };
}

export function after(target: string): Way {
  const client = new InventoryServiceClient(target, insecure, options);
  return { getStock: (sku) => stockAfter(client, sku), close: () => client.close() };
}
