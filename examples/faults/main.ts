// The same calls over the same bad network, once as they are and once with policies.
import { status } from "@grpc/grpc-js";
import { createWeir, isServiceError } from "grpc-weir";
import { seededRandom } from "grpc-weir/testing";
import { answer, inventoryClient, startInventory } from "../shop.js";

// Whoever runs the process says so; here the program does, before it builds what injects.
Object.assign(process.env, { GRPC_WEIR_FAULTS: "1" });

const stock = { sku: "boots", quantity: 42 };
const server = await startInventory({ getStock: (_call, callback) => callback(null, stock) });

/** A hundred calls, and how they end. */
async function hundred(name: string, client: ReturnType<typeof inventoryClient>): Promise<void> {
  // With a connection, so that it is the faults that are seen.
  await new Promise((resolve) => client.waitForReady(Date.now() + 5_000, resolve));
  const ends = await Promise.all(
    Array.from({ length: 100 }, async () => {
      try {
        await answer((done) => client.getStock({ sku: "boots" }, done));
        return "OK";
      } catch (error) {
        if (!isServiceError(error)) throw error;
        return status[error.code] ?? "unknown";
      }
    }),
  );
  const counts = new Map<string, number>();
  for (const end of ends.sort()) counts.set(end, (counts.get(end) ?? 0) + 1);
  console.log(`${name}: ${[...counts].map(([end, count]) => `${count} ${end}`).join(", ")}`);
}

// #region client
const faults = {
  latency: { rate: 0.2, ms: [20, 60] }, // a die of its own
  // The others share one: a call goes wrong in one way.
  status: { rate: 0.1, code: status.UNAVAILABLE },
  drop: { rate: 0.05 }, //                 never answered
  reset: { rate: 0.05 }, //                the connection seems to break
  maxActive: 50,
} as const;
// The dice fall the same every time.
const weir = createWeir({ random: seededRandom(42) });
const bare = weir.client({ faults, retry: false, breaker: false, deadline: { defaultMs: 700 } });
const robust = weir.client({
  faults,
  deadline: { defaultMs: 2_000 },
  timeouts: { attemptMs: 400 },
  retry: { maxAttempts: 5, idempotent: true, backoff: { baseMs: 10 }, budget: false },
  breaker: false,
});
// #endregion
const clients = [inventoryClient(server, bare), inventoryClient(server, robust)] as const;
await hundred("as they are", clients[0]);
await hundred("with policies", clients[1]);
console.log(JSON.stringify(weir.policy("faults").snapshot()));

// #region control
weir.policy("faults").scale = 0; // between 0 and 1: how much of the rates holds
// #endregion
await hundred("the network healed", clients[0]);

// #region server
const slow = await startInventory(
  { getStock: (_call, callback) => callback(null, stock) },
  weir.server({
    faults: {
      midStream: { rate: 0.01, afterMessages: 3 },
      when: ({ priority }) => priority === "low",
      headers: true, // x-fault-delay-ms, x-fault-status
    },
  }),
);
// #endregion

for (const client of clients) client.close();
for (const each of [server, slow]) each.stop();
