import { connect, createServer, type Server, type Socket } from "node:net";

/** The network in front of a server: it passes bytes on, and can lose all connections at once. */
export class Network {
  readonly #server: Server;
  readonly #callers = new Set<Socket>();

  constructor(serverPort: number) {
    this.#server = createServer((caller) => {
      const server = connect(serverPort, "127.0.0.1");
      for (const socket of [caller, server]) {
        socket.setNoDelay(true);
        // One that breaks ends with "close" as well.
        socket.on("error", () => {});
      }
      caller.on("close", () => server.destroy());
      server.on("close", () => caller.destroy());
      this.#callers.add(caller);
      caller.on("close", () => this.#callers.delete(caller));
      caller.pipe(server);
      server.pipe(caller);
    });
  }

  /** @param port 0 for any. */
  listen(port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, "127.0.0.1", () => {
        const address = this.#server.address();
        resolve(typeof address === "object" && address !== null ? address.port : port);
      });
    });
  }

  breakConnections(): void {
    for (const caller of this.#callers) caller.resetAndDestroy();
  }

  close(): void {
    this.#server.close();
    this.breakConnections();
  }
}
