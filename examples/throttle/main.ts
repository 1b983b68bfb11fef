// A client that stops sending what would be refused: because the server says so, and because it is refused too often.
import { setTimeout as sleep } from "node:timers/promises";
import { Metadata, status } from "@grpc/grpc-js";
import { createWeir, isServiceError, type Priority, rejectionOf } from "grpc-weir";
import { answer, inventoryClient, startInventory } from "../shop.js";

const weir = createWeir();

function count(ends: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const end of ends) counts.set(end, (counts.get(end) ?? 0) + 1);
  return [...counts].map(([end, times]) => `${times} ${end}`).join(", ");
}

async function call(by: ReturnType<typeof inventoryClient>, priority: Priority): Promise<string> {
  try {
    const options = weir.with({}, { priority });
    await answer((done) => by.getStock({ sku: "boots" }, new Metadata(), options, done));
    return "OK";
  } catch (error) {
    if (!isServiceError(error)) throw error;
    const { reason = status[error.code], local = false } = rejectionOf(error) ?? {};
    return local ? `not sent (${reason})` : `refused by the server (${reason})`;
  }
}

console.log("a server that high calls keep busy says that it sheds low ones:");
// #region server
const server = await startInventory(
  {
    getStock: ({ request }, callback) => {
      const ms = 20 + 20 * Math.random();
      setTimeout(() => callback(null, { sku: request.sku, quantity: 42 }), ms);
    },
  },
  weir.server({
    admission: {
      limit: 20,
      maxQueued: 0,
      thresholds: { low: 0.4 },
      publish: true, // callers are told what has no prospect
    },
  }),
);
// #endregion
// #region client
const client = inventoryClient(
  server,
  weir.client({
    retry: false, // to count what becomes of each attempt
    breaker: false,
    throttle: {
      k: 1.5, // calls that are sent for each one that is served
      windowMs: 60_000,
      collaborative: true, // the default: what the server says is believed
    },
  }),
);
// #endregion
let busy = true;
const workers = Array.from({ length: 16 }, async (_, nth) => {
  await sleep(2 * nth);
  while (busy) await call(client, "high");
});
await sleep(100);
const low: Promise<string>[] = [];
for (let n = 0; n < 80; n += 1) {
  low.push(call(client, "low"));
  await sleep(8);
}
console.log(`  80 low calls: ${count(await Promise.all(low))}`);
busy = false;
await Promise.all(workers);
const calmMs = performance.now();
while ((await call(client, "low")) !== "OK") await sleep(20);
console.log(`  they are served again ${Math.round(performance.now() - calmMs)} ms after the rush`);

console.log("a server that says nothing refuses four calls of five:");
let arrived = 0;
const silent = await startInventory({
  getStock: ({ request }, callback) => {
    arrived += 1;
    if (arrived % 5 === 0) callback(null, { sku: request.sku, quantity: 42 });
    else callback({ code: status.RESOURCE_EXHAUSTED, details: "too much to do" });
  },
});
const other = inventoryClient(
  silent,
  weir.client({ retry: false, breaker: false, throttle: { windowMs: 10_000 } }),
);
const asked: string[] = [];
for (let n = 0; n < 200; n += 1) asked.push(await call(other, "normal"));
console.log(`  200 calls: ${count(asked)}`);

for (const each of [client, other]) each.close();
for (const each of [server, silent]) each.stop();
