// A server gives each tenant a quota; a client keeps to its own rate and spreads its calls over the time.
import { Metadata, status } from "@grpc/grpc-js";
import { createWeir, isServiceError, rejectionOf } from "grpc-weir";
import type { InventoryServiceClient } from "../gen/demo/shop/v1/inventory.js";
import { answer, inventoryClient, startInventory } from "../shop.js";

const weir = createWeir();
// #region quota
const server = await startInventory(
  {
    getStock: ({ request }, callback) => {
      callback(null, { sku: request.sku, quantity: 42 });
    },
  },
  weir.server({
    quota: [
      {
        ratePerSecond: 10,
        burst: 3,
        key: ({ metadata }) => `tenant:${String(metadata.get("x-tenant")[0] ?? "none")}`,
      },
      { ratePerSecond: 1_000 }, // all tenants together
    ],
  }),
);
// #endregion

const startedAt = performance.now();
const at = () => `${String(Math.round(performance.now() - startedAt)).padStart(4)} ms`;

async function call(client: InventoryServiceClient, tenant: string, name: string): Promise<void> {
  const metadata = new Metadata();
  metadata.set("x-tenant", tenant);
  try {
    await answer((done) => client.getStock({ sku: "boots" }, metadata, done));
    console.log(`  ${at()}  ${tenant} ${name}: OK`);
  } catch (error) {
    if (!isServiceError(error)) throw error;
    const rejection = rejectionOf(error);
    const said = `${status[error.code]}, ${rejection?.reason}, ${rejection?.local === true ? "here" : "by the server"}`;
    console.log(`  ${at()}  ${tenant} ${name}: ${said}: ${error.details}`);
  }
}

function five(client: InventoryServiceClient, tenant: string): Promise<unknown> {
  return Promise.all(["1st", "2nd", "3rd", "4th", "5th"].map((name) => call(client, tenant, name)));
}

const eager = inventoryClient(server, weir.client({ retry: false }));
console.log("five calls at once, of a tenant with a quota of 3 and then 10 per second:");
await five(eager, "acme");
console.log("another tenant has tokens of its own:");
await call(eager, "globex", "1st");

const patient = inventoryClient(server, weir.client());
console.log("with retries, each comes back when the server has told it to:");
await five(patient, "initech");

// #region rate
const paced = inventoryClient(
  server,
  weir.client({
    rate: {
      ratePerSecond: 8, // under the 10 that the server allows
      burst: 1,
      maxWaitMs: 1_000,
    },
  }),
);
// #endregion
console.log("with a rate of its own, the client sends one every 125 ms, and is not refused:");
await five(paced, "umbrella");

console.log(`rate: ${JSON.stringify(weir.policy("rate").snapshot())}`);
console.log(`quota: ${JSON.stringify(weir.policy("quota").snapshot())}`);

for (const client of [eager, patient, paced]) client.close();
server.stop();
