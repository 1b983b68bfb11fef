// Long watches take all streams of a connection; calls that ride another one do not notice.
import { credentials, Metadata, status } from "@grpc/grpc-js";
// #region imports
import { createWeir, isServiceError } from "grpc-weir";
import { partitionedChannel } from "grpc-weir/client";
// #endregion
import { answer, inventoryClient, startInventory } from "../shop.js";

const server = await startInventory(
  {
    getStock: ({ request }, callback) => callback(null, { sku: request.sku, quantity: 42 }),
    watchStock: (call) => {
      call.write({ sku: call.request.sku, quantity: 42 });
    },
  },
  // As a proxy would have it, only that there it is a hundred.
  { "grpc.max_concurrent_streams": 4 },
);

const weir = createWeir();

// #region channel
const channel = partitionedChannel(server.target, credentials.createInsecure(), {
  partitions: {
    urgent: { priorities: ["critical", "high"] },
    watches: { methods: ["demo.shop.v1.InventoryService/WatchStock"], connections: 2 },
    rest: {},
  },
});
const client = inventoryClient(server, weir.client({}, { channelOverride: channel }));
// #endregion

/** Four watches at once, and then a question. */
async function watchAndAsk(name: string, shop: typeof client): Promise<void> {
  const watches = ["boots", "gloves", "hats", "skis"].map((sku) =>
    shop.watchStock({ sku, maxUpdates: 0 }),
  );
  await Promise.all(
    watches.map(
      (watch) =>
        new Promise<void>((resolve) => {
          watch.on("data", () => resolve()).on("error", () => {});
        }),
    ),
  );
  const startedAt = performance.now();
  try {
    const options = { deadline: Date.now() + 500 };
    await answer((done) => shop.getStock({ sku: "boots" }, new Metadata(), options, done));
    console.log(`${name}: the question is answered`);
  } catch (error) {
    if (!isServiceError(error)) throw error;
    const ms = Math.round(performance.now() - startedAt);
    console.log(`${name}: the question hangs, ${status[error.code]} after ${ms} ms`);
  }
  if (shop === client) console.log(JSON.stringify(channel.snapshot().partitions.watches));
  for (const watch of watches) watch.cancel();
}

const single = inventoryClient(server, weir.client());
await watchAndAsk("one connection", single);
await watchAndAsk("partitions", client);

// #region factory
const byTenant = inventoryClient(
  server,
  weir.client(
    {},
    {
      channelFactoryOverride: (target, credential, channelOptions) =>
        partitionedChannel(target, credential, {
          partitions: { big: { connections: 2 }, others: {} },
          defaultPartition: "others",
          partitionOf: ({ metadata }) =>
            metadata.get("tenant").includes("acme") ? "big" : "others",
          channelOptions,
        }),
    },
  ),
);
// #endregion
await answer((done) => byTenant.getStock({ sku: "boots" }, done));

for (const each of [single, client, byTenant]) each.close();
server.stop();
