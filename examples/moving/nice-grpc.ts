import { credentials } from "@grpc/grpc-js";
import { InventoryServiceClient, InventoryServiceService } from "../gen/demo/shop/v1/inventory.js";
import { answer } from "../shop.js";
import type { Way } from "./way.js";

const Stock = { getStock: InventoryServiceService.getStock };

// #region before
import { createChannel, createClientFactory, Status } from "nice-grpc";
import { deadlineMiddleware } from "nice-grpc-client-middleware-deadline";
import { retryMiddleware } from "nice-grpc-client-middleware-retry";

const factory = createClientFactory().use(retryMiddleware).use(deadlineMiddleware);
const defaults = {
  deadline: 5_000,
  retry: true,
  retryMaxAttempts: 2, // retries
  retryBaseDelayMs: 50,
  retryMaxDelayMs: 1_000,
  retryableStatuses: [Status.UNAVAILABLE],
};

function connectBefore(target: string) {
  return factory.create(Stock, createChannel(target), { "*": defaults });
}

// #endregion

// #region after
import { createWeir } from "grpc-weir";

const weir = createWeir();
const options = weir.client({
  deadline: { defaultMs: 5_000 },
  retry: { maxAttempts: 3, backoff: { baseMs: 50, maxMs: 1_000 } }, // the first one included
});

function connectAfter(target: string): InventoryServiceClient {
  return new InventoryServiceClient(target, credentials.createInsecure(), options);
}
// #endregion

export function before(target: string): Way {
  const client = connectBefore(target);
  return { getStock: (sku) => client.getStock({ sku }), close: () => {} };
}

export function after(target: string): Way {
  const client = connectAfter(target);
  return {
    getStock: (sku) => answer((done) => client.getStock({ sku }, done)),
    close: () => client.close(),
  };
}
