import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { Redis } from "ioredis";
import { echoService, payload } from "./echo.js";
import type { Answer, Order, Variant } from "./idempotency-server.js";
import { closedLoop, type Done } from "./overhead-load.js";
import { Peer } from "./peer.js";
import { printTable, printTitle, withQuartiles } from "./report.js";
import { interleaved, type Rounds } from "./rounds.js";
import { pairwise, ratio, spreadOf } from "./statistics.js";

const rounds: Rounds = { warmUp: 5, kept: 20 };
const load = { calls: 500, concurrent: 32 };
/** Calls that follow one another, for the time that one takes. */
const alone = { calls: 50, concurrent: 1 };

const noise =
  `Unary calls over loopback, messages of 64 bytes, a handler that answers at once; each server is a process of its own. ` +
  `${load.calls} calls a turn, ${load.concurrent} under way; the rows take turns, ${rounds.kept} rounds after ` +
  `${rounds.warmUp} of warm-up.\n` +
  "CPU: of the server's process, for each call; Redis: of the process of Redis. One at a time: how long a call takes when it is " +
  "the only one.\n" +
  "Medians (quartiles); ratios to the bare handler, round by round.\n" +
  "Redis writes its file once a second (appendonly yes, appendfsync everysec).";

/** A row: what is called, and with which keys. */
interface Row {
  readonly name: string;
  readonly variant: Variant;
  /** `new`: a key for each call. `known`: one of a few that have been answered. */
  readonly keys?: "new" | "known";
}

const bare: Row = { name: "bare handler", variant: "bare" };
const withoutRedis: readonly Row[] = [
  bare,
  { name: "weir.server()", variant: "weir" },
  { name: "first call, keys in memory", variant: "keys in memory", keys: "new" },
  { name: "replay, keys in memory", variant: "keys in memory", keys: "known" },
  { name: "quota in memory", variant: "quota in memory" },
];
const withRedis: readonly Row[] = [
  { name: "first call, keys in Redis", variant: "keys in Redis", keys: "new" },
  { name: "replay, keys in Redis", variant: "keys in Redis", keys: "known" },
  { name: "quota in Redis, leased", variant: "quota in Redis, leased" },
  { name: "quota in Redis, each call asks", variant: "quota in Redis, each call" },
];

/** One turn of a row. */
interface Measured {
  readonly cpuUs: number;
  readonly redisUs: number;
  readonly perSecond: number;
  readonly oneMs: number;
}

const knownKeys = 100;
let lastKey = 0;

/** What idempotency keys and quotas cost a call, kept in memory and in Redis, against the same handler alone. */
export async function idempotency(): Promise<void> {
  printTitle("idempotency: keys and quotas, in memory and in Redis", noise);
  const redis = await startRedis();
  if (redis === undefined) {
    console.log("There is no redis-server here: the rows with Redis are left out.\n");
  }
  const rows = redis === undefined ? withoutRedis : [...withoutRedis, ...withRedis];
  const scenes = new Map<Row, Scene>();
  try {
    for (const row of rows) scenes.set(row, await Scene.open(row, redis));
    const measured = await interleaved(rows, rounds, (row) => sceneOf(scenes, row).turn());
    print(rows, measured);
  } finally {
    for (const scene of scenes.values()) scene.close();
    await redis?.stop();
  }
}

function sceneOf(scenes: ReadonlyMap<Row, Scene>, row: Row): Scene {
  const scene = scenes.get(row);
  if (scene === undefined) throw new Error(`${row.name} is not open`);
  return scene;
}

/** A server and a client of it. */
class Scene {
  readonly #row: Row;
  readonly #server: Peer<Order, Answer>;
  readonly #client: Client;
  readonly #redis: RedisServer | undefined;

  private constructor(
    row: Row,
    server: Peer<Order, Answer>,
    port: number,
    redis: RedisServer | undefined,
  ) {
    this.#row = row;
    this.#server = server;
    this.#client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
      "grpc.use_local_subchannel_pool": 1,
    });
    this.#redis = redis;
  }

  static async open(row: Row, redis: RedisServer | undefined): Promise<Scene> {
    const server = new Peer<Order, Answer>("idempotency-server", row.name);
    const { port } = await server.ask({ do: "serve", as: row.variant, redisPort: redis?.port });
    if (port === undefined) throw new Error(`${row.name} does not listen`);
    const scene = new Scene(row, server, port, redis);
    // The first calls with the keys that are known from now on.
    if (row.keys === "known") await closedLoop({ calls: knownKeys, concurrent: 1 }, scene.#call);
    return scene;
  }

  async turn(): Promise<Measured> {
    const before = await this.#count();
    const beganMs = performance.now();
    await closedLoop(load, this.#call);
    const tookMs = performance.now() - beganMs;
    const after = await this.#count();
    const ran = after.calls - before.calls;
    if (ran !== (this.#row.keys === "known" ? 0 : load.calls)) {
      throw new Error(`${this.#row.name}: the handler ran ${ran} times for ${load.calls} calls`);
    }
    const aloneMs = performance.now();
    await closedLoop(alone, this.#call);
    return {
      cpuUs: (after.cpuUs - before.cpuUs) / load.calls,
      redisUs: (after.redisUs - before.redisUs) / load.calls,
      perSecond: (load.calls / tookMs) * 1_000,
      oneMs: (performance.now() - aloneMs) / alone.calls,
    };
  }

  close(): void {
    this.#client.close();
    this.#server.stop();
  }

  readonly #call = (done: Done): void => {
    const { path, requestSerialize, responseDeserialize } = echoService.unary;
    const metadata = new Metadata();
    const { keys } = this.#row;
    if (keys !== undefined) {
      lastKey += 1;
      metadata.set("idempotency-key", keys === "new" ? `n${lastKey}` : `k${lastKey % knownKeys}`);
      metadata.set("x-user", "anna");
    }
    this.#client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      payload,
      metadata,
      {},
      (error) => done(error ?? undefined),
    );
  };

  async #count() {
    const { cpuUs = Number.NaN, calls = Number.NaN } = await this.#server.ask({ do: "count" });
    return { cpuUs, calls, redisUs: (await this.#redis?.cpuUs()) ?? 0 };
  }
}

function print(rows: readonly Row[], measured: ReadonlyMap<Row, readonly Measured[]>): void {
  const of = (row: Row, what: keyof Measured): number[] =>
    (measured.get(row) ?? []).map((turn) => turn[what]);
  const compared = (row: Row, what: keyof Measured): string =>
    row === bare ? "1" : withQuartiles(pairwise(of(row, what), of(bare, what), ratio), 2);
  printTable(
    ["", "CPU µs", "ratio", "Redis µs", "calls/s", "ratio", "one at a time, ms", "ratio"],
    rows.map((row) => [
      row.name,
      spreadOf(of(row, "cpuUs")).median.toFixed(0),
      compared(row, "cpuUs"),
      withRedis.includes(row) ? spreadOf(of(row, "redisUs")).median.toFixed(0) : "",
      spreadOf(of(row, "perSecond")).median.toFixed(0),
      compared(row, "perSecond"),
      spreadOf(of(row, "oneMs")).median.toFixed(2),
      compared(row, "oneMs"),
    ]),
  );
}

interface RedisServer {
  readonly port: number;
  /** CPU time since it began, in microseconds. */
  readonly cpuUs: () => Promise<number>;
  readonly stop: () => Promise<void>;
}

/** A Redis of its own. `undefined` where the program is not installed. */
async function startRedis(): Promise<RedisServer | undefined> {
  const port = await freePort();
  const dir = await mkdtemp(join(tmpdir(), "weir-bench-"));
  const own = ["--port", `${port}`, "--bind", "127.0.0.1", "--save", "", "--dir", dir];
  const persistence = ["--appendonly", "yes", "--appendfsync", "everysec"];
  const server = spawn("redis-server", [...own, ...persistence], { stdio: "ignore" });
  if (!(await started(server))) return undefined;
  const client = new Redis(port, "127.0.0.1");
  // It is not listening yet: ioredis tries again.
  client.on("error", () => {});
  await client.ping();
  return {
    port,
    cpuUs: async () => {
      const info = await client.info("cpu");
      const seconds = (name: string) => Number(new RegExp(`${name}:([\\d.]+)`).exec(info)?.[1]);
      return (seconds("used_cpu_user") + seconds("used_cpu_sys")) * 1_000_000;
    },
    stop: async () => {
      client.disconnect();
      server.kill("SIGKILL");
      await once(server, "exit");
      await rm(dir, { recursive: true });
    },
  };
}

function started(program: ChildProcess): Promise<boolean> {
  return new Promise((resolve) => {
    program.once("spawn", () => resolve(true));
    program.once("error", () => resolve(false));
  });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
