// A server that breaks and recovers, behind a breaker.
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { createWeir, isServiceError, rejectionOf } from "grpc-weir";
import { answer, inventoryClient, startInventory } from "../shop.js";

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
      openMs: 300, // then 360, 432 and so on, while its probes fail
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

// #region slow
const impatient = inventoryClient(
  server,
  weir.client({
    breaker: {
      slowMs: 500,
      slowRate: 0.8, // four of five calls took longer than 500 ms
      inFlightMs: 2_000, // one that hangs for 2 s counts as failed before it ends
      windowCalls: 100,
    },
  }),
);
// #endregion

// #region outcome
const tolerant = inventoryClient(
  server,
  weir.client({
    breaker: {
      outcome: ({ code, details }) => {
        // One customer's broken data says nothing of the service.
        if (code === status.INTERNAL && details.startsWith("broken record")) return "success";
        return undefined; // what the toolkit makes of it
      },
    },
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
    if (rejection.retryAfterMs === undefined) return rejection.reason;
    return `${rejection.reason}, again in ${Math.ceil(rejection.retryAfterMs)} ms`;
  }
}

async function show(what: string, calls: number): Promise<void> {
  console.log(`${what}:`);
  reached = 0;
  for (let made = 0; made < calls; made += 1) console.log(`  ${await call()}`);
  console.log(`  ${reached} of ${calls} calls reached the server`);
}

// #region watch
const breakers = weir.policy("breaker");
breakers.onStateChange(({ key, from, to, detail }) => {
  console.log(`  [${key}: ${from} -> ${to}, ${detail}]`);
});
// #endregion

/** The time until the first client's breaker lets a probe through. */
function restMs(): number {
  const [states] = breakers.snapshot();
  const [state] = Object.values(states?.breakers ?? {});
  return state?.state === "open" ? state.retryAfterMs : 0;
}

await show("the server is broken", 5);
await sleep(restMs() + 10);
await show("it rested, and the probe fails", 2);
broken = false;
await sleep(restMs() + 10);
await show("the server has recovered", 3);

// #region hand
breakers.forceOpen(); // for all keys, or for the one that is named
await show("opened by hand", 2);
breakers.release();
await show("released, it begins with probes", 2);
// #endregion

broken = true;
breakers.mode = "observe";
await show("the breaker only observes", 4);
breakers.mode = "enforce";

// #region restore
const saved = JSON.stringify(breakers.snapshot());
// ... in the next process, once its clients are built:
breakers.restore(JSON.parse(saved));
// #endregion
await show("another process goes on where this one stopped", 1);

for (const each of [client, byPriority, impatient, tolerant]) each.close();
server.stop();
