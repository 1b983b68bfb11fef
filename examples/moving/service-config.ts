import { credentials } from "@grpc/grpc-js";
import { InventoryServiceClient } from "../gen/demo/shop/v1/inventory.js";
import { answer } from "../shop.js";
import type { Way } from "./way.js";

const insecure = credentials.createInsecure();

// #region before
const serviceConfig = {
  methodConfig: [
    {
      name: [{ service: "demo.shop.v1.InventoryService" }],
      timeout: "5s",
      retryPolicy: {
        maxAttempts: 3,
        initialBackoff: "0.05s",
        maxBackoff: "1s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
};

function connectBefore(target: string): InventoryServiceClient {
  return new InventoryServiceClient(target, insecure, {
    "grpc.service_config": JSON.stringify(serviceConfig),
  });
}

// #endregion

// #region after
import { createWeir } from "grpc-weir";
import { policiesFromServiceConfig } from "grpc-weir/client";

const weir = createWeir();

function connectAfter(target: string): InventoryServiceClient {
  const { policy, warnings } = policiesFromServiceConfig(serviceConfig);
  for (const warning of warnings) console.warn(warning);
  return new InventoryServiceClient(target, insecure, weir.client(policy));
}
// #endregion

function wayOf(client: InventoryServiceClient): Way {
  return {
    getStock: (sku) => answer((done) => client.getStock({ sku }, done)),
    close: () => client.close(),
  };
}

export const before = (target: string): Way => wayOf(connectBefore(target));
export const after = (target: string): Way => wayOf(connectAfter(target));
