// Two servers share the quota of a tenant over one Redis, and go on with half of it each while that Redis is away. Two clients
// share their retry budget and the answers that stand in for failed calls.
import { status } from "@grpc/grpc-js";
import { createWeir, type DecisionEvent, isServiceError } from "grpc-weir";
import { staleCache } from "grpc-weir/client";
import { fromIoredis, redisAnswerCache, redisQuotaStore, redisRetryBudgets } from "grpc-weir/redis";
import { Redis } from "ioredis";
import type { GetStockResponse, InventoryServiceClient } from "../gen/demo/shop/v1/inventory.js";
import { startRedis } from "../idempotency/redis.js";
import { answer, inventoryClient, type Listening, startInventory } from "../shop.js";

const started = await startRedis();
if (started === undefined) {
  console.log("there is no redis-server here: install it, as with `apt-get install redis-server`");
  process.exit(1);
}

const decisions: DecisionEvent[] = [];
const onDecision = (decision: DecisionEvent) => decisions.push(decision);
const onError = () => {}; // here; elsewhere it goes to the log
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const stock = { down: false };

/** One of the servers. Each has a connection of its own, as a process has. */
async function startServer() {
  const redis = await connect();
  const weir = createWeir({ onDecision, onError });
  // #region quota
  const tokens = redisQuotaStore(fromIoredis(redis), {
    localShare: 1 / 2, // of two servers, while Redis is away
    onError,
  });
  const options = weir.server({
    quota: {
      ratePerSecond: 20,
      burst: 20,
      key: ({ metadata }) => `tenant:${String(metadata.get("x-tenant")[0] ?? "none")}`,
      store: tokens,
    },
  });
  // #endregion
  const server = await startInventory(
    {
      getStock: ({ request }, callback) => {
        if (stock.down) callback({ code: status.UNAVAILABLE, details: "no stock" });
        else callback(null, { sku: request.sku, quantity: 42 });
      },
    },
    options,
  );
  const stop = async () => {
    server.stop();
    weir.close();
    // #region close
    await tokens.close(); // what this process has leased and not used goes back
    // #endregion
    redis.disconnect();
  };
  return { server, stop };
}

/** One of the clients. */
async function startClient(server: Listening) {
  const redis = await connect();
  const weir = createWeir({ onDecision, onError });
  // #region client
  const client = fromIoredis(redis);
  const options = weir.client({
    retry: { idempotent: true, budget: { share: redisRetryBudgets(client, { onError }) } },
    fallback: {
      providers: [staleCache({ shared: true, store: redisAnswerCache(client, { onError }) })],
    },
  });
  // #endregion
  const inventory = inventoryClient(server, options);
  const stop = () => {
    inventory.close();
    weir.close();
    redis.disconnect();
  };
  return { inventory, stop };
}

/** The first calls do not wait for a connection to be made: it is there before them. */
async function connect(): Promise<Redis> {
  const redis = new Redis(started?.port ?? 0, "127.0.0.1", { retryStrategy: () => 50 });
  redis.on("error", () => {}); // the stores say so
  await redis.ping();
  return redis;
}

async function call(client: InventoryServiceClient): Promise<string> {
  try {
    const { quantity } = await answer<GetStockResponse>((done) =>
      client.getStock({ sku: "boots" }, done),
    );
    return `OK, ${quantity} in stock`;
  } catch (error) {
    if (!isServiceError(error)) throw error;
    return status[error.code] ?? "an unknown status";
  }
}

/** Calls both servers by turns, and counts how many calls were answered. */
async function callBoth(clients: readonly InventoryServiceClient[], count: number) {
  const codes = await Promise.all(
    Array.from({ length: count }, async (_, n) => {
      const client = clients[n % clients.length];
      return client === undefined ? "" : call(client);
    }),
  );
  return codes.filter((code) => code.startsWith("OK")).length;
}

const servers = [await startServer(), await startServer()] as const;
const bare = servers.map(({ server }) => inventoryClient(server));
console.log(`60 calls to two servers with one quota of 20: ${await callBoth(bare, 60)} OK`);

await pause(1_100);
const [{ server }] = servers;
const clients = [await startClient(server), await startClient(server)];
for (const [n, { inventory }] of clients.entries()) {
  console.log(`client ${n + 1}: ${await call(inventory)}`);
  stock.down = true;
}
console.log("  (the second one was answered by what the first had been told)");
for (const { stop } of clients) stop();
stock.down = false;

started.stop();
await pause(500);
await callBoth(bare, 2); // they notice
const before = decisions.length;
const alone = await callBoth(bare, 60);
const away = decisions.slice(before).filter(({ reason }) => reason === "STORE_AWAY").length;
console.log(`60 calls while Redis is away: ${alone} OK, ${away} of them by the half of a server`);
for (const client of bare) client.close();
for (const { stop } of servers) await stop();
