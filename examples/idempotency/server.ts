// One of the two servers: a process of its own, which says what it does, and has an accident when it is told to.
import { setTimeout as sleep } from "node:timers/promises";
import { Server, ServerCredentials, type ServerUnaryCall, status } from "@grpc/grpc-js";
import { createWeir, currentCall } from "grpc-weir";
import { fromIoredis, redisIdempotencyStore } from "grpc-weir/redis";
import { Redis } from "ioredis";
import {
  InventoryServiceService,
  type ReserveRequest,
  type ReserveResponse,
} from "../gen/demo/shop/v1/inventory.js";
import type { InventoryHandlers } from "../shop.js";
import type { Accident, Told } from "./messages.js";
import { takeFromShelf } from "./shelf.js";

const [name = "", redisPort = ""] = process.argv.slice(2);
const say = (text: string) => console.log(`  server ${name}: ${text}`);
const tell = (told: Told) => process.send?.(told);
let accident: Accident | undefined;
process.on("message", (next: Accident) => {
  accident = next;
});
process.on("disconnect", () => process.exit());

// #region redis
const redis = new Redis(Number(redisPort), "127.0.0.1", {
  maxRetriesPerRequest: 1, // a command fails soon after its connection was lost
  retryStrategy: () => 200, // and the next connection is tried soon
});
redis.on("error", (error) => say(`no Redis: ${error.message}`));
const kept = redisIdempotencyStore(fromIoredis(redis), { prefix: "shop:" });
// #endregion
/** The store, and a process that dies between storing an answer and sending it. */
const store: typeof kept = {
  claim: (key, claim) => kept.claim(key, claim),
  renew: (key, token, leaseMs) => kept.renew(key, token, leaseMs),
  release: (key, token) => kept.release(key, token),
  complete: async (key, token, bytes, ttlMs) => {
    const completed = await kept.complete(key, token, bytes, ttlMs);
    if (accident === "dies before it answers") {
      say("has stored the answer, and dies before it can send it");
      process.kill(process.pid, "SIGKILL");
    }
    return completed;
  },
};

const weir = createWeir();
// #region server
const options = weir.server({
  idempotency: {
    store, // redisIdempotencyStore(fromIoredis(new Redis(…)))
    // Whose keys are the same: from what a proxy has checked, or from the certificate.
    scope: ({ metadata }) => String(metadata.get("x-user")[0]),
    services: [InventoryServiceService],
    methods: { "demo.shop.v1.InventoryService/Reserve": {} },
    leaseMs: 1_000, // 30 s by default
  },
});
// #endregion

// #region handler
async function reserve({
  request,
  metadata,
}: ServerUnaryCall<ReserveRequest, ReserveResponse>): Promise<ReserveResponse> {
  const order = `${String(metadata.get("x-user")[0])}/${request.orderId}`;
  // Undefined only where calls may run without the store.
  const token = currentCall()?.idempotency?.fencingToken ?? 0;
  say(`runs the handler for ${order}`);
  await prepare();
  const left = await takeFromShelf(redis, request.sku, order, request.quantity, token);
  if (left !== undefined) return { reservationId: order, left };
  say(`comes too late with ${order}: the shelf refuses its token`);
  // The client asks again, and gets the answer of the server that has taken over.
  throw Object.assign(new Error("another server has taken over"), { code: status.UNAVAILABLE });
}
// #endregion

async function prepare(): Promise<void> {
  if (accident !== "freezes in the handler") return;
  accident = undefined;
  tell({ type: "in the handler" });
  await sleep(50);
}

const server = new Server(options);
server.addService(InventoryServiceService, {
  reserve: (call, callback) => {
    reserve(call).then((answer) => callback(null, answer), callback);
  },
} satisfies InventoryHandlers);
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error !== null) throw error;
  tell({ type: "listening", target: `127.0.0.1:${port}` });
});
