import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

const prefaceBytes = 24;
const headerBytes = 9;
const windowUpdate = 8;

/**
 * Stands between clients and a server as a proxy does that hands the window of a connection back only as streams are
 * read (RFC 9113, section 5.2: that is the receiver's choice). Node gives it back as bytes arrive, so that between
 * two Node peers an unread stream holds up nobody but itself.
 */
export class WindowKeepingRelay {
  readonly address: string;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;

  static async to(port: number): Promise<WindowKeepingRelay> {
    const sockets = new Set<Socket>();
    const server = createServer({ noDelay: true }, (client) => {
      const upstream = connect({ port, host: "127.0.0.1", noDelay: true });
      sockets.add(client);
      client.once("close", () => sockets.delete(client));
      pipe(client, upstream, prefaceBytes);
      pipe(upstream, client, 0);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new WindowKeepingRelay(server, sockets);
  }

  private constructor(server: Server, sockets: Set<Socket>) {
    this.#server = server;
    this.#sockets = sockets;
    this.address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  /** Connections that clients have open. */
  get connections(): number {
    return this.#sockets.size;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

function pipe(from: Socket, to: Socket, verbatimBytes: number): void {
  let rest = Buffer.alloc(0);
  let verbatim = verbatimBytes;
  from.on("data", (chunk) => {
    rest = Buffer.concat([rest, typeof chunk === "string" ? Buffer.from(chunk) : chunk]);
    if (verbatim > 0) {
      if (rest.length < verbatim) return;
      to.write(rest.subarray(0, verbatim));
      rest = rest.subarray(verbatim);
      verbatim = 0;
    }
    for (;;) {
      if (rest.length < headerBytes) return;
      const end = headerBytes + rest.readUIntBE(0, 3);
      if (rest.length < end) return;
      pass(rest.subarray(0, end), to);
      rest = rest.subarray(end);
    }
  });
  from.on("error", () => to.destroy());
  from.on("close", () => to.destroy());
}

function pass(frame: Buffer, to: Socket): void {
  if (frame[3] !== windowUpdate) {
    to.write(frame);
    return;
  }
  // Of the connection: kept. Of a stream: its reader has read, and the connection gets as much.
  if (frame.readUInt32BE(5) === 0) return;
  to.write(frame);
  const connection = Buffer.from(frame);
  connection.writeUInt32BE(0, 5);
  to.write(connection);
}
