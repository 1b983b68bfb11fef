// A service with two databases, one of which hangs: that sinks its own partition, and nothing else.
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { createWeir, isServiceError, rejectionOf } from "grpc-weir";
import { answer, inventoryClient, startInventory } from "../shop.js";
import { Pool } from "./pool.js";

const orders = new Pool(4);
const stock = new Pool(4);
const weir = createWeir();

// #region guards
const ordersDb = weir.guard("orders-db", {
  timeouts: { totalMs: 100 },
  bulkhead: { maxConcurrent: 4, maxQueued: 2, maxWaitMs: 20 },
  breaker: { consecutiveFailures: 3, openMs: 250, probes: 2 },
});
const stockDb = weir.guard("stock-db", {
  timeouts: { totalMs: 100 },
  bulkhead: { maxConcurrent: 4 },
  breaker: { countError: (error) => !(error instanceof RangeError) }, // a bad request is not its fault
  retry: { maxAttempts: 2, backoff: { baseMs: 10 } }, // reads may run twice
});
// #endregion

// #region handlers
const server = await startInventory(
  {
    reserve({ request }, callback) {
      ordersDb
        .run(() => orders.query({ reservationId: request.orderId, left: 9 }))
        .then(
          (reservation) => callback(null, reservation),
          (error) => callback(error), // a refusal has the status and the reason in it
        );
    },
    getStock({ request }, callback) {
      stockDb
        .run(() => stock.query({ sku: request.sku, quantity: 42 }))
        .then(
          (level) => callback(null, level),
          (error) => callback(error),
        );
    },
  },
  weir.server(),
);
// #endregion

// #region fallback
const prices = weir.guard("prices", {
  timeouts: { totalMs: 50 },
  fallback: { answer: () => ({ cents: 1_995, stale: true }) },
});
/** The signal ends the request when the time is up, or when nobody waits for the answer any more. */
async function priceOf(sku: string): Promise<{ cents: number; stale: boolean }> {
  return prices.run(async (signal) => {
    const response = await fetch(`http://127.0.0.1:9/prices/${sku}`, { signal });
    return { cents: Number(await response.text()), stale: false };
  });
}
// #endregion

const client = inventoryClient(server);
const calls = {
  "Reserve  (orders-db)": () =>
    answer((done) => client.reserve({ orderId: "o-1", sku: "boots", quantity: 1 }, done)),
  "GetStock (stock-db) ": () => answer((done) => client.getStock({ sku: "boots" }, done)),
};

interface Tally {
  readonly ends: Map<string, number>;
  slowestMs: number;
}

/** A call of each kind every 15 ms. */
async function traffic(title: string, rounds: number): Promise<void> {
  const tallies = new Map<string, Tally>();
  const pending: Promise<void>[] = [];
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, call] of Object.entries(calls)) {
      const tally = tallies.get(name) ?? { ends: new Map<string, number>(), slowestMs: 0 };
      tallies.set(name, tally);
      pending.push(measure(call, tally));
    }
    await sleep(15);
  }
  await Promise.all(pending);
  console.log(`${title}:`);
  for (const [name, { ends, slowestMs }] of tallies) {
    const counts = [...ends].map(([end, count]) => `${count} ${end}`).join(", ");
    console.log(`  ${name}  ${counts}; the slowest took ${slowestMs.toFixed(0)} ms`);
  }
  console.log(`  connections in use: orders-db ${orders.busy} of 4, stock-db ${stock.busy} of 4\n`);
}

async function measure(call: () => Promise<unknown>, tally: Tally): Promise<void> {
  const startedMs = performance.now();
  let end = "OK";
  try {
    await call();
  } catch (error) {
    if (!isServiceError(error)) throw error;
    end = rejectionOf(error)?.reason ?? status[error.code];
  }
  tally.ends.set(end, (tally.ends.get(end) ?? 0) + 1);
  tally.slowestMs = Math.max(tally.slowestMs, performance.now() - startedMs);
}

await answer((done) => client.getStock({ sku: "warm-up" }, done));
await traffic("both databases are well", 20);
const thaw = orders.hang();
await traffic("orders-db hangs", 40);
thaw();
await sleep(600); // the rest of its breaker
await traffic("orders-db is well again", 20);

const { cents, stale } = await priceOf("boots");
console.log(`the price service is down: ${cents / 100}${stale ? ", a stale price" : ""}`);
for (const guard of [ordersDb, stockDb, prices])
  console.log(`  ${JSON.stringify(guard.snapshot())}`);

client.close();
server.stop();
weir.close();
