import { once } from "node:events";
import { createConnection, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { portOf } from "../ops/ports.js";

/** Stands between a client and a server. Its fields may change at any time, and hold for what arrives from then on. */
export interface TcpProxy {
  readonly port: number;
  /** How long what the client sends takes, in milliseconds. `Infinity` holds it back for good. */
  toServerMs: number;
  /** How long what the server sends takes, in milliseconds. `Infinity` holds it back for good. */
  toClientMs: number;
  close(): Promise<void>;
}

/** Forwards the connections of a port of its own to `target`, on the loopback interface. */
export async function startProxy(target: number): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = createConnection(target, "127.0.0.1");
    join(client, upstream, () => proxy.toServerMs);
    join(upstream, client, () => proxy.toClientMs);
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const proxy: TcpProxy = {
    port: portOf(server),
    toServerMs: 0,
    toClientMs: 0,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
  return proxy;
}

function join(from: Socket, to: Socket, delayMs: () => number): void {
  let last: Promise<unknown> = Promise.resolve();
  from.on("data", (data) => {
    const ms = delayMs();
    // Parts keep their order, also when the delay has changed between them.
    const due = ms === Number.POSITIVE_INFINITY ? new Promise<never>(() => {}) : sleep(ms);
    last = Promise.all([last, due]).then(() => to.write(data));
  });
}
