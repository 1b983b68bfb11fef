// One server of the idempotency bench, in a process of its own: its CPU time is its own.
import { Server, ServerCredentials, type ServerOptions } from "@grpc/grpc-js";
import { createWeir } from "grpc-weir";
import { fromIoredis, redisIdempotencyStore, redisQuotaStore } from "grpc-weir/redis";
import type { IdempotencyStore } from "grpc-weir/server";
import { Redis } from "ioredis";
import { Echo, echoService } from "./echo.js";
import { obeyOrders } from "./peer.js";

/** What stands before the same handler. */
export const variants = [
  "bare",
  "weir",
  "keys in memory",
  "keys in Redis",
  "quota in memory",
  "quota in Redis, leased",
  "quota in Redis, each call",
] as const;
export type Variant = (typeof variants)[number];

export type Order =
  | { readonly do: "serve"; readonly as: Variant; readonly redisPort: number | undefined }
  | { readonly do: "count" };

export interface Answer {
  readonly port?: number;
  /** CPU time since the process began, in microseconds. */
  readonly cpuUs?: number;
  /** Calls that have come to the handler. */
  readonly calls?: number;
  readonly error?: string;
}

const echo = new Echo();

/** Far above what is asked for: no call is refused, also on a machine that is busy with other things. */
const quota = { ratePerSecond: 1_000_000, burst: 1_000_000, storeTimeoutMs: 5_000 };
const patient = { callWaitMs: 4_000 };

function optionsOf(variant: Variant, redisPort: number | undefined): ServerOptions {
  if (variant === "bare") return {};
  const weir = createWeir();
  const redis = () => {
    if (redisPort === undefined) throw new Error("there is no Redis");
    return fromIoredis(new Redis(redisPort, "127.0.0.1"));
  };
  const keys = (store?: IdempotencyStore) =>
    weir.server({
      idempotency: {
        scope: ({ metadata }) => String(metadata.get("x-user")[0]),
        methods: { "weir.bench.v1.Echo/Unary": {} },
        ...(store === undefined ? { maxEntries: 100_000 } : { store }),
      },
    });
  switch (variant) {
    case "weir":
      return weir.server();
    case "keys in memory":
      return keys();
    case "keys in Redis":
      return keys(redisIdempotencyStore(redis()));
    case "quota in memory":
      return weir.server({ quota: [quota] });
    case "quota in Redis, leased":
      return weir.server({ quota: [{ ...quota, store: redisQuotaStore(redis(), patient) }] });
    case "quota in Redis, each call":
      return weir.server({
        quota: [{ ...quota, store: redisQuotaStore(redis(), { ...patient, leaseShare: 0 }) }],
      });
    default:
      return variant satisfies never;
  }
}

async function obey(order: Order): Promise<Answer> {
  if (order.do === "count") {
    const { user, system } = process.cpuUsage();
    return { cpuUs: user + system, calls: echo.calls };
  }
  const server = new Server(optionsOf(order.as, order.redisPort));
  server.addService(echoService, { ...echo.handlers });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return { port };
}

obeyOrders(obey);
