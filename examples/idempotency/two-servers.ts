// Two servers in processes of their own, which share a Redis, and clients that have bad luck.
import { credentials, Metadata, status } from "@grpc/grpc-js";
import { createWeir, isServiceError, rejectionOf } from "grpc-weir";
import { Redis } from "ioredis";
import {
  InventoryServiceClient,
  type ReserveRequest,
  type ReserveResponse,
} from "../gen/demo/shop/v1/inventory.js";

import { startRedis } from "./redis.js";
import { ServerProcess } from "./server-process.js";

const weir = createWeir();

/** False where there is no Redis to be had. */
export async function twoServers(): Promise<boolean> {
  const redis = await startRedis();
  if (redis === undefined) return false;
  const shelf = new Redis(redis.port, "127.0.0.1");
  const servers: ServerProcess[] = [];
  const clients: InventoryServiceClient[] = [];
  const start = (name: string): ServerProcess => {
    const server = new ServerProcess(name, redis.port);
    servers.push(server);
    return server;
  };
  const connect = (...targets: readonly string[]): InventoryServiceClient => {
    const client = clientOf(targets);
    clients.push(client);
    return client;
  };
  try {
    await shelf.set("shelf:boots", 10);
    await aLostAnswer(start, connect);
    await aFrozenServer(start, connect);
    console.log(`\non the shelf: ${await shelf.get("shelf:boots")} of 10 boots`);
  } finally {
    for (const client of clients) client.close();
    weir.close();
    shelf.disconnect();
    for (const server of servers) server.stop();
    redis.stop();
  }
  return true;
}

// #region client
function clientOf(targets: readonly string[]): InventoryServiceClient {
  return new InventoryServiceClient(
    `ipv4:${targets.join(",")}`,
    credentials.createInsecure(),
    weir.client({
      deadline: { defaultMs: 6_000 },
      timeouts: { attemptMs: 4_000 },
      idempotencyKey: {
        source: (request) => (request as ReserveRequest).orderId,
        honoured: true, // so a call whose answer is lost is tried again
      },
    }),
  );
}
// #endregion

type Start = (name: string) => ServerProcess;
type Connect = (...targets: readonly string[]) => InventoryServiceClient;

async function aLostAnswer(start: Start, connect: Connect): Promise<void> {
  const [a, b] = [start("A"), start("B")];
  const client = connect(await a.target(), await b.target());
  console.log(
    "\nThe answer is lost: the server dies before it can send it. The client tries again.",
  );
  a.expect("dies before it answers");
  await reserve(client, "anna", "order-1", 2);

  console.log("\nThe same order again, a day later at the latest.");
  await reserve(client, "anna", "order-1", 2);

  console.log("\nThe same key with another request.");
  await reserve(client, "anna", "order-1", 5);

  console.log("\nThe same key of another caller.");
  await reserve(client, "ben", "order-1", 1);
}

async function aFrozenServer(start: Start, connect: Connect): Promise<void> {
  const [c, d] = [start("C"), start("D")];
  const [first, second] = [connect(await c.target()), connect(await d.target())];
  console.log(
    "\nA server freezes in the handler for longer than its lease. Another one takes over.",
  );
  c.expect("freezes in the handler");
  const inTheHandler = c.next("in the handler");
  const frozen = reserve(first, "cleo", "order-2", 3);
  await inTheHandler;
  c.freeze();
  console.log("  server C: stands still");
  await reserve(second, "cleo", "order-2", 3);
  console.log("  server C: goes on");
  c.thaw();
  await frozen;
}

/** Sends an order, and says what its client sees. */
function reserve(
  client: InventoryServiceClient,
  user: string,
  orderId: string,
  quantity: number,
): Promise<void> {
  const metadata = new Metadata();
  metadata.set("x-user", user);
  console.log(`  ${user}: ${quantity} boots, key ${orderId}`);
  return new Promise((resolve) => {
    let replayed = "";
    const call = client.reserve({ orderId, sku: "boots", quantity }, metadata, (error, answer) => {
      console.log(`  ${user}: ${error === null ? placed(answer) : failed(error)}${replayed}`);
      resolve();
    });
    call.on("metadata", (headers) => {
      if (headers.get("x-weir-replayed").length > 0) replayed = " (the stored answer)";
    });
  });
}

function placed({ reservationId, left }: ReserveResponse): string {
  return `OK, ${reservationId}, ${left} left`;
}

function failed(error: Error): string {
  if (!isServiceError(error)) return error.message;
  return `${status[error.code]} (${rejectionOf(error)?.reason ?? error.details})`;
}
