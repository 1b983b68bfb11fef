// A server that breaks and recovers, behind a breaker.
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { createWeir, rejectionOf } from "grpc-weir";
import type { BreakerSnapshot } from "grpc-weir/client";
import { answer, inventoryClient, isServiceError, startInventory } from "../shop.js";

let broken = true;
let reached = 0;
const server = await startInventory({
  getStock: ({ request }, callback) => {
    reached += 1;
    if (broken) callback({ code: status.INTERNAL, details: "the disk is full" });
    else callback(null, { sku: request.sku, quantity: 42 });
  },
});

const weir = createWeir();
// #region breaker
const client = inventoryClient(
  server,
  weir.client({
    retry: false,
    breaker: {
      consecutiveFailures: 3,
      openMs: 300,
      probes: 2,
    },
  }),
);
// #endregion

// #region key
const byPriority = inventoryClient(
  server,
  weir.client({
    // Where the server sheds low priorities, that says nothing of the others.
    breaker: { key: ({ target, priority }) => `${target} ${priority ?? "normal"}` },
  }),
);
// #endregion

async function call(): Promise<string> {
  try {
    await answer((done) => client.getStock({ sku: "boots" }, done));
    return "OK";
  } catch (error) {
    if (!isServiceError(error)) throw error;
    const rejection = rejectionOf(error);
    if (rejection === undefined) return status[error.code] ?? "?";
    return `${rejection.reason}, again in ${Math.ceil(rejection.retryAfterMs ?? 0)} ms`;
  }
}

/** The state of the first client's only breaker. */
function state(): string {
  const [states] = weir.policy("breaker").snapshot();
  const [breaker] = Object.values((states ?? {}) as Readonly<Record<string, BreakerSnapshot>>);
  return breaker?.state ?? "none yet";
}

async function show(what: string, calls: number): Promise<void> {
  console.log(`${what}:`);
  reached = 0;
  for (let made = 0; made < calls; made += 1) console.log(`  ${await call()} (${state()})`);
  console.log(`  ${reached} of ${calls} calls reached the server`);
}

await show("the server is broken", 5);
await sleep(320);
await show("it rested, and the probe fails", 2);
broken = false;
await sleep(320);
await show("the server has recovered", 3);

broken = true;
weir.policy("breaker").mode = "observe";
await show("the breaker only observes", 5);

for (const each of [client, byPriority]) each.close();
server.stop();
