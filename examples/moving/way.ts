import type { GetStockResponse } from "../gen/demo/shop/v1/inventory.js";

/** A client of the inventory, built in one way or another. */
export interface Way {
  getStock(sku: string): Promise<GetStockResponse>;
  close(): void;
}
