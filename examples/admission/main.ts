// A server that can bear ten calls at once gets forty, of four priorities.
import { Metadata, status } from "@grpc/grpc-js";
import { createWeir, isServiceError, type Priority, rejectionOf } from "grpc-weir";
import { answer, inventoryClient, startInventory } from "../shop.js";
import { learnt, limitOf, patient, pressedBy, withLatencyTarget, withStreams } from "./limits.js";

const weir = createWeir();
// #region admission
const server = await startInventory(
  {
    getStock: ({ request }, callback) => {
      setTimeout(() => callback(null, { sku: request.sku, quantity: 42 }), 60);
    },
  },
  weir.server({
    admission: {
      limit: 10,
      maxQueued: 10,
      maxWaitMs: 2_000,
      thresholds: { low: 0.5, normal: 0.75, high: 0.95 },
      priority: { default: "normal" },
    },
  }),
);
// #endregion
const client = inventoryClient(server, weir.client({ retry: false }));
const persistent = inventoryClient(server, weir.client({ retry: { maxAttempts: 6 } }));

async function call(priority: Priority, by = client): Promise<string> {
  try {
    const options = weir.with({}, { priority });
    await answer((done) => by.getStock({ sku: "boots" }, new Metadata(), options, done));
    return "OK";
  } catch (error) {
    if (!isServiceError(error)) throw error;
    const { reason, retryAfterMs } = rejectionOf(error) ?? {};
    const when = retryAfterMs === undefined ? "" : ", come back later";
    return `${status[error.code]} ${reason}${when}`;
  }
}

await call("normal");
console.log("forty at once, ten of each:");
const priorities = ["low", "normal", "high", "critical"] as const;
const ends = await Promise.all(
  Array.from({ length: 40 }, async (_, index) => {
    const priority = priorities[index % 4] ?? "normal";
    return { priority, end: await call(priority) };
  }),
);
for (const priority of priorities) {
  const counts = new Map<string, number>();
  for (const each of ends) {
    if (each.priority === priority) counts.set(each.end, (counts.get(each.end) ?? 0) + 1);
  }
  const told = [...counts].map(([end, count]) => `${count} ${end}`).join("; ");
  console.log(`  ${priority}: ${told}`);
}
console.log(`  ${JSON.stringify(weir.policy("admission").snapshot())}`);

console.log("a burst of low ones, by a client that comes back when it is told to:");
const burst = await Promise.all(Array.from({ length: 20 }, () => call("low", persistent)));
console.log(`  ${burst.filter((end) => end === "OK").length} of ${burst.length} got an answer`);

console.log("a caller with too little time:");
// #region guard
const guarded = await startInventory(
  { getStock: ({ request }, callback) => callback(null, { sku: request.sku, quantity: 42 }) },
  weir.server({ deadlineGuard: { minRemainingMs: 500 } }), // what the work takes at least
);
// #endregion
const plain = inventoryClient(guarded);
const soon = { deadline: Date.now() + 450 };
await answer((done) => plain.getStock({ sku: "boots" }, new Metadata(), soon, done)).catch(
  (error: unknown) => {
    if (!isServiceError(error)) throw error;
    console.log(`  ${rejectionOf(error)?.reason}: ${error.details}`);
  },
);

console.log("what a limit of four would do, to a server that takes on all:");
// #region observe
const watching = createWeir();
const watched = await startInventory(
  {
    getStock: ({ request }, callback) => {
      setTimeout(() => callback(null, { sku: request.sku, quantity: 42 }), 60);
    },
  },
  watching.server({ admission: { mode: "observe", limit: 4, maxQueued: 4 } }),
);
// #endregion
const visitor = inventoryClient(watched, weir.client({ retry: false }));
await Promise.all(
  Array.from({ length: 20 }, () => answer((done) => visitor.getStock({ sku: "boots" }, done))),
);
// #region observed
const { admission: wouldBe = {} } = watching.observed();
for (const [reason, { refused, success, failure }] of Object.entries(wouldBe)) {
  console.log(`  ${reason}: ${refused} refused, of which ${success} ended well, ${failure} failed`);
}
// #endregion

console.log("limits of other servers, at their start:");
const poolOfNine = { size: 9, waiting: 0 };
const others = {
  learnt,
  withLatencyTarget,
  patient,
  withStreams,
  pressed: pressedBy(poolOfNine),
  own: { admission: { limit: limitOf(poolOfNine) } },
};
for (const [name, policy] of Object.entries(others)) {
  const other = createWeir();
  other.server(policy);
  const [numbers] = other.policy("admission").snapshot();
  console.log(`  ${name}: ${numbers?.limit}, and ${numbers?.maxQueued} may wait`);
  other.close();
}

for (const each of [client, persistent, plain, visitor]) each.close();
for (const each of [server, guarded, watched]) each.stop();
for (const each of [weir, watching]) each.close();
