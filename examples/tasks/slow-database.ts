// A database with few connections behind a server that is asked for more than it can do.
import { Metadata } from "@grpc/grpc-js";
import { createWeir, type Priority, priorityKey } from "grpc-weir";
import { Pool } from "../guard/pool.js";
import { answer, inventoryClient, startInventory } from "../shop.js";

const weir = createWeir();
const pool = new Pool(4);

// #region guard
const db = weir.guard("db", {
  timeouts: { totalMs: 500 }, // for the wait and the query
  bulkhead: { maxConcurrent: 4, maxQueued: 16, maxWaitMs: 200 }, // as many as the pool has connections
  breaker: {}, // while queries fail or hang, callers are told at once
});

/** A query waits here, by the priority of its call, and not in the pool. */
function stockOf(sku: string): Promise<{ sku: string; quantity: number }> {
  return db.run(() => pool.query({ sku, quantity: 42 }));
}
// #endregion

// #region limit
const serverOptions = weir.server({ admission: { limit: 6 } }); // 1.5 times the pool
// #endregion

export async function protectADatabase(): Promise<void> {
  const service = await startInventory(
    {
      getStock: ({ request }, callback) => {
        stockOf(request.sku).then(
          (stock) => callback(null, stock),
          (error) => callback(error),
        );
      },
    },
    serverOptions,
  );
  const client = inventoryClient(service, weir.client({ retry: false }));
  const served = { critical: 0, low: 0 };
  const ask = async (priority: Priority & keyof typeof served) => {
    const metadata = new Metadata();
    metadata.set(priorityKey, priority);
    await answer((done) => client.getStock({ sku: "boots" }, metadata, done)).then(
      () => {
        served[priority] += 1;
      },
      () => {},
    );
  };
  await Promise.all(Array.from({ length: 60 }, (_, n) => ask(n % 10 === 9 ? "critical" : "low")));
  console.log("60 calls at once, for a database with 4 connections:");
  console.log(`  critical: ${served.critical} of 6 served, low: ${served.low} of 54`);
  client.close();
  service.stop();
  weir.close();
}
