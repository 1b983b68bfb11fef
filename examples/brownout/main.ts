// A shop page with reviews and recommendations. Under load it does without them, before anybody is refused.
import { Metadata } from "@grpc/grpc-js";
import { createWeir, currentCall, type Priority } from "grpc-weir";
import type { InventoryServiceClient } from "../gen/demo/shop/v1/inventory.js";
import { answer, inventoryClient, startInventory } from "../shop.js";

/** What the operators have switched off, as a flag provider would know it. */
const flags = new Map<string, boolean>();
const left = new Map<string, number>();
const seen = (what: string) => left.set(what, (left.get(what) ?? 0) + 1);
const work = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

let inHand = 0;
async function page(): Promise<void> {
  const call = currentCall();
  await work(40); // what the answer cannot do without
  // #region handler
  if (call?.shouldSkip("reviews") !== true) await work(20);
  if (call?.shouldSkip("recommendations") !== true) await work(80);
  // #endregion
  else seen(`${call.priority} left them out`);
}

const weir = createWeir();
// #region brownout
const options = weir.server({
  brownout: {
    optional: {
      recommendations: { skipAbovePressure: 0.2, skipAllAbovePressure: 0.7 },
      reviews: { skipAbovePressure: 0.6 }, // they go later
    },
    pressure: () => inHand / 80, // left out, it is that of the server's admission
    flag: (name) => flags.get(name), // false: off; true: on; undefined: by the pressure
  },
});
// #endregion
const server = await startInventory(
  {
    getStock: ({ request }, callback) => {
      inHand += 1;
      void page().then(() => {
        inHand -= 1;
        callback(null, { sku: request.sku, quantity: 42 });
      });
    },
  },
  options,
);
const client = inventoryClient(server, weir.client({ retry: false, breaker: false }));

async function burst(name: string, count: number): Promise<void> {
  left.clear();
  const priorities: readonly Priority[] = ["low", "normal", "high", "critical"];
  const beganMs = performance.now();
  const ends = await Promise.allSettled(
    Array.from({ length: count }, (_, index) =>
      getStock(client, priorities[index % priorities.length] ?? "normal"),
    ),
  );
  const ok = ends.filter(({ status }) => status === "fulfilled").length;
  const tookMs = Math.round(performance.now() - beganMs);
  console.log(`${name}: ${ok} of ${count} OK in ${tookMs} ms, without recommendations:`);
  for (const priority of priorities) {
    console.log(`  ${priority}: ${left.get(`${priority} left them out`) ?? 0} of ${count / 4}`);
  }
}

function getStock(by: InventoryServiceClient, priority: Priority): Promise<unknown> {
  const options = weir.with({}, { priority });
  return answer((done) => by.getStock({ sku: "boots" }, new Metadata(), options, done));
}

await getStock(client, "normal");
await burst("a quiet hour", 8);
await burst("a rush", 80);

// #region flag
flags.set("recommendations", false); // somebody has switched them off, for all
await burst("switched off", 8);
flags.set("recommendations", true); // and now they stay, whatever the pressure
// #endregion
await burst("kept on", 40);
console.log(JSON.stringify(weir.policy("brownout").snapshot()));

client.close();
server.stop();
