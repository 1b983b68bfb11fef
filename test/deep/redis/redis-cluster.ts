import type { Redis } from "ioredis";
import { freePort } from "../ops/ports.js";
import { inspect } from "./clients.js";
import { type RedisProcess, startRedis } from "./redis-server.js";
import { until } from "./until.js";

/** Masters that share the slots among them. */
export interface RedisCluster {
  readonly nodes: readonly RedisProcess[];
  /** Moves the slot of a key, with all its keys. `half` is awaited when they have moved and nobody has been told. */
  move(key: string, half: () => Promise<void>): Promise<void>;
  close(): Promise<void>;
}

const slots = 16_384;

/** A cluster without replicas, on free ports of the loopback interface. */
export async function startCluster(size: number): Promise<RedisCluster> {
  const nodes = await Promise.all(Array.from({ length: size }, startNode));
  const close = async () => {
    await Promise.all(nodes.map((node) => node.redis.close()));
  };
  try {
    const [first] = nodes;
    if (first === undefined) throw new Error("a cluster has a node");
    for (const [index, { redis, busPort }] of nodes.entries()) {
      const begin = Math.floor((index * slots) / size);
      const end = Math.floor(((index + 1) * slots) / size) - 1;
      await inspect(redis.port, (admin) => admin.cluster("ADDSLOTSRANGE", begin, end));
      if (redis === first.redis) continue;
      await inspect(first.redis.port, (admin) =>
        admin.call("CLUSTER", "MEET", "127.0.0.1", redis.port, busPort),
      );
    }
    for (const { redis } of nodes)
      await until(() => inspect(redis.port, (admin) => knows(admin, size)));
  } catch (error) {
    await close();
    throw error;
  }
  return { nodes: nodes.map((node) => node.redis), move: (...args) => move(nodes, ...args), close };
}

interface Node {
  readonly redis: RedisProcess;
  readonly busPort: number;
}

async function startNode(): Promise<Node> {
  // By default it is the port plus 10,000, which may be beyond all ports.
  const busPort = await freePort();
  const redis = await startRedis(["--cluster-enabled", "yes", "--cluster-port", `${busPort}`]);
  return { redis, busPort };
}

async function knows(admin: Redis, size: number): Promise<boolean> {
  const info = String(await admin.cluster("INFO"));
  return info.includes("cluster_state:ok") && info.includes(`cluster_known_nodes:${size}`);
}

async function move(nodes: readonly Node[], key: string, half: () => Promise<void>): Promise<void> {
  const has = await Promise.all(
    nodes.map(({ redis }) => inspect(redis.port, (admin) => admin.call("KEYS", "*"))),
  );
  const from = nodes[has.findIndex((keys) => Array.isArray(keys) && keys.includes(key))]?.redis;
  const to = nodes.find(({ redis }) => redis !== from)?.redis;
  if (from === undefined || to === undefined) throw new Error(`no node has ${key}`);
  const slot = Number(await inspect(from.port, (admin) => admin.cluster("KEYSLOT", key)));
  const [fromId, toId] = await Promise.all(
    [from, to].map(({ port }) =>
      inspect(port, async (admin) => String(await admin.cluster("MYID"))),
    ),
  );
  if (fromId === undefined || toId === undefined) throw new Error("a node has a name");
  await inspect(to.port, (admin) => admin.cluster("SETSLOT", slot, "IMPORTING", fromId));
  await inspect(from.port, (admin) => admin.cluster("SETSLOT", slot, "MIGRATING", toId));
  const keys = await inspect(from.port, (admin) => admin.cluster("GETKEYSINSLOT", slot, 1_000));
  for (const each of keys.map(String)) {
    await inspect(from.port, (admin) =>
      admin.call("MIGRATE", "127.0.0.1", to.port, each, 0, 10_000),
    );
  }
  await half();
  for (const { port } of [to, from]) {
    await inspect(port, (admin) => admin.cluster("SETSLOT", slot, "NODE", toId));
  }
}
