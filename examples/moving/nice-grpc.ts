import { InventoryServiceService } from "../gen/demo/shop/v1/inventory.js";
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
import { ChannelCredentials, createClient } from "nice-grpc";

const weir = createWeir();
const policy = {
  deadline: { defaultMs: 5_000 },
  retry: { maxAttempts: 3, backoff: { baseMs: 50, maxMs: 1_000 } }, // the first one included
};

function connectAfter(target: string) {
  return createClient(Stock, weir.channel(target, ChannelCredentials.createInsecure(), policy));
}
// #endregion

function wayOf(client: ReturnType<typeof connectBefore>): Way {
  return { getStock: (sku) => client.getStock({ sku }), close: () => {} };
}

export const before = (target: string): Way => wayOf(connectBefore(target));
export const after = (target: string): Way => wayOf(connectAfter(target));
