import { credentials } from "@grpc/grpc-js";
// #region weir
import { createWeir } from "grpc-weir";
import { InventoryServiceClient } from "../gen/demo/shop/v1/inventory.js";
import { answer } from "../shop.js";
import type { Way } from "./way.js";

const weir = createWeir();
// #endregion

// #region twice
/** The client makes three attempts, and the sidecar three of each: nine in all. */
const twice = weir.client({ retry: { maxAttempts: 3 } });
// #endregion

// #region sidecar
/** The sidecar retries. Deadlines, priorities, the breaker and spans are those of the client. */
const bySidecar = weir.client({ retry: false });
// #endregion

// #region client
/** The client retries, because it knows the deadline, what is idempotent, and the budget. */
const byClient = weir.client();
// #endregion

function connect(target: string, options: ReturnType<typeof weir.client>): Way {
  const client = new InventoryServiceClient(target, credentials.createInsecure(), options);
  return {
    getStock: (sku) => answer((done) => client.getStock({ sku }, done)),
    close: () => client.close(),
  };
}

export const retriedTwice = (target: string): Way => connect(target, twice);
export const retriedBySidecar = (target: string): Way => connect(target, bySidecar);
export const retriedByClient = (target: string): Way => connect(target, byClient);
