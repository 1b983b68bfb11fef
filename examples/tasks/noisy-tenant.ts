// One tenant asks for far more than its share, and the others do not notice.
import { setTimeout as sleep } from "node:timers/promises";
import { Metadata } from "@grpc/grpc-js";
import { createWeir, type ServerPolicy } from "grpc-weir";
import { answer, inventoryClient, startInventory } from "../shop.js";

const weir = createWeir();

// #region tenants
/** From a header that a proxy has checked. A name that callers choose freely is no credential. */
const tenantOf = ({ metadata }: { readonly metadata: Pick<Metadata, "get"> }) =>
  String(metadata.get("x-tenant")[0] ?? "none");

const policy: ServerPolicy = {
  // Who has used least is next, inside of a priority. It acts only while calls wait.
  admission: { limit: 4, fairness: { key: tenantOf } },
};
// #endregion

// #region quota
/** What a tenant has bought. It acts at any load. */
const withQuota: ServerPolicy = {
  ...policy,
  quota: { ratePerSecond: 50, burst: 100, key: tenantOf },
};
// #endregion

// #region share
/** No tenant holds more than half of the slots, however slow its calls are. */
const withShares: ServerPolicy = {
  ...policy,
  bulkhead: { key: tenantOf, maxConcurrent: 2, maxQueued: 100, maxWaitMs: 1_000 },
};
// #endregion

async function run(name: string, serverPolicy: ServerPolicy): Promise<void> {
  const service = await startInventory(
    {
      getStock: ({ request }, callback) => {
        setTimeout(() => callback(null, { sku: request.sku, quantity: 42 }), 20);
      },
    },
    weir.server(serverPolicy),
  );
  const client = inventoryClient(service, weir.client({ retry: false }));
  const served = { noisy: 0, quiet: 0 };
  const ask = async (tenant: keyof typeof served) => {
    const metadata = new Metadata();
    metadata.set("x-tenant", tenant);
    const options = { deadline: Date.now() + 3_000 };
    await answer((done) => client.getStock({ sku: "boots" }, metadata, options, done)).then(
      () => {
        served[tenant] += 1;
      },
      () => {},
    );
  };
  const running: Promise<void>[] = [];
  for (let tick = 0; tick < 50; tick += 1) {
    // The server can do 200 a second. One asks for 400, the other for 20.
    for (let call = 0; call < 4; call += 1) running.push(ask("noisy"));
    if (tick % 5 === 0) running.push(ask("quiet"));
    await sleep(10);
  }
  await Promise.all(running);
  console.log(`  ${name}: quiet ${served.quiet} of 10, noisy ${served.noisy} of 200`);
  client.close();
  service.stop();
}

export async function boundANoisyTenant(): Promise<void> {
  console.log("one tenant asks for twice what the server can do, another for little:");
  await run("nothing but a limit", { admission: { limit: 4, fairness: false } });
  await run("fairness", policy);
  await run("fairness and a quota", withQuota);
  await run("fairness and a share of the slots", withShares);
  weir.close();
}
