// A slow target may tie up four calls of this process, and no more; and reports may not tie up all of what is shared.
import { setTimeout as sleep } from "node:timers/promises";
import { Metadata, status } from "@grpc/grpc-js";
import { createWeir, isServiceError, type Priority, rejectionOf } from "grpc-weir";
import { answer, inventoryClient, startInventory } from "../shop.js";

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
  reserve: ({ request }, callback) => {
    setTimeout(() => callback(null, { reservationId: request.orderId, left: 41 }), 100);
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

// #region partitions
const shared = inventoryClient(
  server,
  weir.client({
    bulkhead: {
      maxConcurrent: 8,
      maxQueued: 40,
      maxWaitMs: 1_000,
      partitions: {
        checkout: { share: 0.5 },
        reports: { share: 0.1, maxShare: 0.9 },
      },
      partition: ({ method }) => (method.endsWith("/Reserve") ? "checkout" : "reports"),
      weight: ({ method }) => (method.endsWith("/ImportStock") ? 2 : 1),
      streams: { maxConcurrent: 4 },
    },
  }),
);
// #endregion

const served: string[] = [];
async function told(name: string, call: Promise<unknown>): Promise<void> {
  try {
    await call;
    served.push(name);
  } catch (error) {
    if (!isServiceError(error)) throw error;
    console.log(
      `  ${name}: ${status[error.code]}, ${rejectionOf(error)?.reason}: ${error.details}`,
    );
  }
}

function call(name: string, priority: Priority): Promise<void> {
  const options = weir.with({}, { priority });
  return told(
    name,
    answer((done) => client.getStock({ sku: "boots" }, new Metadata(), options, done)),
  );
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

/** The numbers of the only target of the second client, as a table. */
function table(): string {
  const [, second] = weir.policy("bulkhead").snapshot();
  const [numbers] = Object.values(second?.bulkheads ?? {});
  const rows = [["partition", "guaranteed", "at most", "running", "waiting"]];
  for (const [name, one] of Object.entries(numbers?.partitions ?? {})) {
    const cells = [one.guaranteed, one.most, one.running, one.queued];
    rows.push([name, ...cells.map(String)]);
  }
  return rows
    .map(([name, ...cells]) => `  ${name?.padEnd(10)}${cells.map((n) => n.padStart(11)).join("")}`)
    .join("\n");
}

served.length = 0;
const reports = Array.from({ length: 16 }, (_, n) =>
  told(
    `report ${n + 1}`,
    answer((done) => shared.getStock({ sku: "boots" }, done)),
  ),
);
await sleep(50);
const orders = Array.from({ length: 5 }, (_, n) =>
  told(
    `order ${n + 1}`,
    answer((done) => shared.reserve({ orderId: `${n}`, sku: "boots", quantity: 1 }, done)),
  ),
);
await sleep(10);
console.log("\nsixteen reports, then five orders; the reports have borrowed what nobody used:");
console.log(table());
await sleep(70);
console.log("and when some of them have ended, the orders have what is theirs:");
console.log(table());
await Promise.all([...reports, ...orders]);
console.log(`  served, in this order: ${served.join(", ")}`);

// #region server
const halves = await startInventory(
  {
    getStock: ({ request }, callback) => {
      setTimeout(() => callback(null, { sku: request.sku, quantity: 42 }), 100);
    },
  },
  weir.server({
    bulkhead: {
      key: ({ metadata }) => String(metadata.get("x-tenant")[0] ?? "none"),
      maxConcurrent: 3, // for each tenant
      maxQueued: 2,
      maxWaitMs: 1_000,
    },
  }),
);
// #endregion
const visitor = inventoryClient(halves, weir.client({ retry: false, breaker: false }));
const tenants = ["big", "big", "big", "big", "big", "big", "big", "small", "small"];
const outcomes = await Promise.all(
  tenants.map(async (tenant) => {
    const metadata = new Metadata();
    metadata.set("x-tenant", tenant);
    try {
      await answer((done) => visitor.getStock({ sku: "boots" }, metadata, done));
      return `${tenant}: OK`;
    } catch (error) {
      if (!isServiceError(error)) throw error;
      const { reason, retryAfterMs = 0 } = rejectionOf(error) ?? {};
      return `${tenant}: ${status[error.code]} ${reason}${retryAfterMs > 0 ? ", come back later" : ""}`;
    }
  }),
);
console.log("\na server, seven calls of one tenant and two of another:");
for (const outcome of new Set(outcomes)) {
  console.log(`  ${outcomes.filter((each) => each === outcome).length} × ${outcome}`);
}

for (const each of [client, shared, visitor]) each.close();
for (const each of [server, halves]) each.stop();
