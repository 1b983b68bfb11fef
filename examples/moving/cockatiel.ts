import { credentials } from "@grpc/grpc-js";
import { type GetStockResponse, InventoryServiceClient } from "../gen/demo/shop/v1/inventory.js";
import { answer } from "../shop.js";
import type { Way } from "./way.js";

const insecure = credentials.createInsecure();

// #region before
import { status } from "@grpc/grpc-js";
import {
  ConsecutiveBreaker,
  circuitBreaker,
  ExponentialBackoff,
  handleWhen,
  retry,
  TimeoutStrategy,
  timeout,
  wrap,
} from "cockatiel";

const unavailable = handleWhen((error) => "code" in error && error.code === status.UNAVAILABLE);
const policy = wrap(
  timeout(5_000, TimeoutStrategy.Aggressive),
  retry(unavailable, {
    maxAttempts: 2, // retries
    backoff: new ExponentialBackoff({ initialDelay: 50, maxDelay: 1_000 }),
  }),
  circuitBreaker(unavailable, { halfOpenAfter: 5_000, breaker: new ConsecutiveBreaker(5) }),
);

function stockBefore(client: InventoryServiceClient, sku: string): Promise<GetStockResponse> {
  return policy.execute(() => answer((done) => client.getStock({ sku }, done)));
}

// #endregion

// #region after
import { createWeir } from "grpc-weir";

const weir = createWeir();
const options = weir.client({
  deadline: { defaultMs: 5_000 },
  retry: { maxAttempts: 3, backoff: { baseMs: 50, maxMs: 1_000 } }, // the first one included
  breaker: { consecutiveFailures: 5 }, // of each target by itself; that is the default
});

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
