// A slow target may tie up four calls of this process, and no more.
import { Metadata, status } from "@grpc/grpc-js";
import { createWeir, type Priority, rejectionOf } from "grpc-weir";
import { answer, inventoryClient, isServiceError, startInventory } from "../shop.js";

let running = 0;
let most = 0;
const server = await startInventory({
  getStock: ({ request }, callback) => {
    running += 1;
    most = Math.max(most, running);
    setTimeout(() => {
      running -= 1;
      callback(null, { sku: request.sku, quantity: 42 });
    }, 100);
  },
});

const weir = createWeir();
// #region bulkhead
const client = inventoryClient(
  server,
  weir.client({
    bulkhead: {
      maxConcurrent: 4,
      maxQueued: 4,
      maxWaitMs: 1_000,
    },
  }),
);
// #endregion

const served: string[] = [];
async function call(name: string, priority: Priority): Promise<void> {
  try {
    const options = weir.with({}, { priority });
    await answer((done) => client.getStock({ sku: "boots" }, new Metadata(), options, done));
    served.push(name);
  } catch (error) {
    if (!isServiceError(error)) throw error;
    console.log(
      `  ${name}: ${status[error.code]}, ${rejectionOf(error)?.reason}: ${error.details}`,
    );
  }
}

await call("warm-up", "normal");
served.length = 0;
console.log("ten calls at once:");
await Promise.all([
  ...["1st", "2nd", "3rd", "4th", "5th", "6th"].map((name) => call(`${name} low`, "low")),
  ...["7th", "8th", "9th", "10th"].map((name) => call(`${name} high`, "high")),
]);
console.log(`  served, in this order: ${served.join(", ")}`);
console.log(`  at most ${most} at once on the server`);
console.log(`  ${JSON.stringify(weir.policy("bulkhead").snapshot())}`);

client.close();
server.stop();
