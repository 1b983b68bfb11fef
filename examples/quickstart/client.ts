// #region client
import { credentials } from "@grpc/grpc-js";
import { type ClientPolicy, createWeir } from "grpc-weir";
import {
  InventoryServiceClient,
  type InventoryServiceService,
} from "../gen/demo/shop/v1/inventory.js";

/** One for the process: it owns the state of all policies. */
export const weir = createWeir();

/** What it does not name has its default. The type of the service lets the compiler check the names of methods. */
export const clientPolicy: ClientPolicy<InventoryServiceService> = {
  deadline: { defaultMs: 2_000 },
  retry: { maxAttempts: 4 },
  methods: {
    // Reserving twice for one order id is reserving once.
    "demo.shop.v1.InventoryService/Reserve": { retry: { idempotent: true } },
    "demo.shop.v1.InventoryService/GetStock": {
      retry: { idempotent: true },
      hedge: { delayMs: 80 },
    },
    // A stream that stays open has no default deadline.
    "demo.shop.v1.InventoryService/WatchStock": { deadline: { defaultMs: false } },
  },
};

export function connectInventory(target: string): InventoryServiceClient {
  return new InventoryServiceClient(
    target,
    credentials.createInsecure(),
    weir.client(clientPolicy),
  );
}
// #endregion
