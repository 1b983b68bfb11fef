// #region service-config
import { policiesFromServiceConfig, type ServiceConfigImport } from "grpc-weir/client";

const config = {
  methodConfig: [
    {
      name: [{ service: "demo.shop.v1.InventoryService" }],
      timeout: "1.5s",
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: "0.1s",
        maxBackoff: "1s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
};

export function configuredPolicy(): ServiceConfigImport {
  const { policy, warnings } = policiesFromServiceConfig(config);
  for (const warning of warnings) console.warn(warning);
  return { policy, warnings }; // weir.client({ ...policy, breaker: { failureRate: 0.5 } })
}
// #endregion
