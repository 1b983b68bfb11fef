// A server with two slow answers in ten, with a hedge and without one.
import { createWeir } from "grpc-weir";
import type { GetStockResponse, InventoryServiceClient } from "../gen/demo/shop/v1/inventory.js";
import { answer, inventoryClient, startInventory } from "../shop.js";

let asked = 0;
const server = await startInventory({
  getStock: ({ request }, callback) => {
    asked += 1;
    // Every fifth request meets a pause, whoever sends it.
    const pauseMs = asked % 5 === 0 ? 400 : 5;
    setTimeout(() => callback(null, { sku: request.sku, quantity: 42 }), pauseMs);
  },
});

const weir = createWeir();
const plain = inventoryClient(server, weir.client());
// #region hedge
const hedged = inventoryClient(
  server,
  weir.client({
    methods: {
      "demo.shop.v1.InventoryService/GetStock": {
        retry: { idempotent: true }, // without that there are no hedges
        hedge: { delayMs: 50 }, // or { quantile: 0.95 }, learned from the attempts
      },
    },
  }),
);
// #endregion

async function measure(name: string, client: InventoryServiceClient): Promise<void> {
  asked = 0;
  const tookMs: number[] = [];
  for (let call = 0; call < 20; call += 1) {
    const startMs = performance.now();
    await answer<GetStockResponse>((done) => client.getStock({ sku: "boots" }, done));
    tookMs.push(performance.now() - startMs);
  }
  const slowest = Math.round(Math.max(...tookMs));
  console.log(`${name}: 20 calls, ${asked} requests, the slowest took ${slowest} ms`);
}

await measure("without hedges", plain);
await measure("with hedges", hedged);

const { policies } = weir.snapshot();
console.log(`hedges: ${JSON.stringify(policies.hedge?.instances)}`);
for (const client of [plain, hedged]) client.close();
server.stop();
