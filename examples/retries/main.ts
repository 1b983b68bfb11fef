// Which failures are retried: a server fails as it is told to, and the client's decisions are printed.
import { Metadata, status } from "@grpc/grpc-js";
// #region imports
import { createWeir, type DecisionEvent, isServiceError } from "grpc-weir";
import { methodRegistry } from "grpc-weir/client";
// #endregion
import type { ReserveResponse } from "../gen/demo/shop/v1/inventory.js";
import { answer, inventoryClient, startInventory } from "../shop.js";
import { judgedStock } from "./judgement.js";
import { resumedStock } from "./resume.js";
import { configuredPolicy } from "./service-config.js";

const request = { orderId: "order-1", sku: "boots", quantity: 1 };

/** What the next attempts meet, one after the other; those that follow go well. */
let failures: { code: status; pushbackMs?: number }[] = [];
let attempts = 0;
const server = await startInventory({
  reserve: (_call, callback) => {
    attempts += 1;
    const failure = failures.shift();
    if (failure === undefined) {
      callback(null, { reservationId: "reservation-1", left: 41 });
      return;
    }
    const metadata = new Metadata();
    const { code, pushbackMs } = failure;
    if (pushbackMs !== undefined) metadata.set("grpc-retry-pushback-ms", String(pushbackMs));
    callback({ code, details: "as told", metadata });
  },
});

const decisions: DecisionEvent[] = [];
const weir = createWeir({ onDecision: (decision) => decisions.push(decision) });

// #region policy
const idempotent = inventoryClient(
  server,
  weir.client({
    retry: { maxAttempts: 4, codes: [status.UNAVAILABLE, status.ABORTED], backoff: { baseMs: 20 } },
    // The levels of the schema. Or from a descriptor set: methodRegistry(readFileSync("shop.binpb"))
    idempotency: methodRegistry({ "demo.shop.v1.InventoryService/Reserve": "idempotent" }),
  }),
);
// #endregion
const unknown = inventoryClient(
  server,
  weir.client({ retry: { maxAttempts: 4, codes: [status.UNAVAILABLE, status.ABORTED] } }),
);

async function show(what: string, client = idempotent): Promise<void> {
  decisions.length = 0;
  attempts = 0;
  const end = await answer<ReserveResponse>((done) => client.reserve(request, done)).then(
    () => "OK",
    (error: unknown) => (isServiceError(error) ? status[error.code] : String(error)),
  );
  console.log(`${what}: ${end} after ${attempts} on the server`);
  for (const { policy, verdict, reason = "", waitMs } of decisions) {
    const wait = waitMs === undefined ? "" : `in ${Math.round(waitMs)} ms`;
    console.log(`    ${[policy, verdict, reason, wait].filter((word) => word !== "").join(" ")}`);
  }
}

failures = [{ code: status.UNAVAILABLE }, { code: status.UNAVAILABLE }];
await show("UNAVAILABLE twice");
failures = [{ code: status.ABORTED }];
await show("ABORTED, idempotent");
failures = [{ code: status.ABORTED }];
await show("ABORTED, and nobody said that it may run twice", unknown);
failures = [{ code: status.INTERNAL }];
await show("INTERNAL, which is not among the codes");
failures = [{ code: status.RESOURCE_EXHAUSTED }];
await show("RESOURCE_EXHAUSTED without a word of when");
failures = [{ code: status.RESOURCE_EXHAUSTED, pushbackMs: 30 }];
await show("RESOURCE_EXHAUSTED, come back in 30 ms");
failures = [{ code: status.UNAVAILABLE, pushbackMs: -1 }];
await show("UNAVAILABLE, do not come back");

console.log(`a response that is not wanted: ${await judgedStock(weir)}`);
console.log(`a broken stream that is continued: ${await resumedStock(weir)}`);
console.log(`a service config: ${JSON.stringify(configuredPolicy().policy.methods)}`);

server.stop();
await show("the server is gone, idempotent or not", unknown);

idempotent.close();
unknown.close();
