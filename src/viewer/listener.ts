import { once } from "node:events";
import type { Server, Socket } from "node:net";
import { loopback } from "./local-http.js";

/**
 * What listens on a port.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export type PortUse = "the page" | "OTLP over gRPC" | "OTLP over HTTP";

/**
 * A port that could not be opened.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export class PortError extends Error {
  override readonly name = "PortError";
  readonly use: PortUse;
  readonly port: number;
  /** Such as `EADDRINUSE`. */
  readonly code: string;

  constructor(use: PortUse, port: number, code: string) {
    const why =
      code === "EADDRINUSE" ? "is in use" : `cannot be opened${code === "" ? "" : ` (${code})`}`;
    super(`port ${port} for ${use} ${why}`);
    this.use = use;
    this.port = port;
    this.code = code;
  }
}

export interface ListenOptions {
  readonly use: PortUse;
  /** 0 for any. */
  readonly port: number;
  /** Whether the process stays alive for it. */
  readonly keepsProcess: boolean;
}

/** A server that listens on the loopback address. */
export class Listener {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets: ReadonlySet<Socket>;

  private constructor(server: Server, port: number, sockets: ReadonlySet<Socket>) {
    this.#server = server;
    this.port = port;
    this.#sockets = sockets;
  }

  /** @throws PortError */
  static async open(server: Server, options: ListenOptions): Promise<Listener> {
    const { use, port, keepsProcess } = options;
    const sockets = new Set<Socket>();
    server.on("connection", (socket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
      if (!keepsProcess) socket.unref();
    });
    try {
      server.listen(port, loopback);
      await once(server, "listening");
    } catch (error) {
      throw new PortError(use, port, codeOf(error));
    }
    // A connection that cannot be accepted, for want of file descriptors, is no reason to end the process.
    server.on("error", () => {});
    if (!keepsProcess) server.unref();
    const address = server.address();
    return new Listener(
      server,
      typeof address === "object" ? (address?.port ?? port) : port,
      sockets,
    );
  }

  /** Ends it at once, with all of its connections. */
  async close(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

function codeOf(error: unknown): string {
  const code: unknown = error instanceof Error ? Reflect.get(error, "code") : undefined;
  return typeof code === "string" ? code : "";
}
