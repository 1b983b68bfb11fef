import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { Redis } from "ioredis";

export interface RedisServer {
  readonly port: number;
  stop(): void;
}

/** A `redis-server` of its own on a free port. `undefined` where the program is not installed. */
export async function startRedis(): Promise<RedisServer | undefined> {
  const port = await freePort();
  // Nothing is left behind. A Redis for idempotency keys has `appendonly yes`, see docs/redis.md.
  const settings = ["--port", `${port}`, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
  const server = spawn("redis-server", settings, { stdio: "ignore" });
  if (!(await started(server))) return undefined;
  const client = new Redis(port, "127.0.0.1");
  client.on("error", () => {}); // it is not listening yet: ioredis tries again
  await client.ping();
  client.disconnect();
  return { port, stop: () => server.kill() };
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
