import {
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { AddressInfo, Socket } from "node:net";

export interface RawStream {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
}

/** A peer that speaks HTTP/2 and only as much gRPC as a test tells it. */
export class RawPeer {
  /** Streams that reached it. */
  streams = 0;
  readonly address: string;
  readonly #server: Http2Server;
  readonly #sessions: Set<ServerHttp2Session>;
  readonly #sockets = new Set<Socket>();

  static async listen(answer: (raw: RawStream) => void): Promise<RawPeer> {
    const sessions = new Set<ServerHttp2Session>();
    const server = createServer();
    let peer: RawPeer | undefined;
    server.on("session", (session) => {
      sessions.add(session);
      session.on("error", () => {});
      session.once("close", () => sessions.delete(session));
    });
    server.on("stream", (stream, headers) => {
      stream.on("error", () => {});
      if (peer !== undefined) peer.streams += 1;
      answer({ stream, headers });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    peer = new RawPeer(server, sessions, `127.0.0.1:${port}`);
    return peer;
  }

  private constructor(server: Http2Server, sessions: Set<ServerHttp2Session>, address: string) {
    this.#server = server;
    this.#sessions = sessions;
    this.address = address;
    server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
  }

  /** The connections break without a goodbye. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** The connections are reset. */
  reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** The connections are closed from this side, orderly for TCP and without a word of HTTP/2. */
  hangUp(): void {
    for (const socket of this.#sockets) socket.end();
  }

  /** The connections are ended with this HTTP/2 code. */
  destroySessions(code: number): void {
    for (const session of this.#sessions) session.destroy(new Error("ended by the test"), code);
  }

  async close(): Promise<void> {
    for (const session of this.#sessions) session.destroy();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }
}

/** A message as it stands on the wire: uncompressed, with its length before it. */
function framed(message: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

const grpcHeaders = { ":status": 200, "content-type": "application/grpc+proto" };

/** Response headers, then these messages, then these trailers; without trailers it just ends. */
export function answer(
  { stream }: RawStream,
  messages: readonly Buffer[],
  trailers?: Record<string, string>,
): void {
  stream.respond(grpcHeaders, { waitForTrailers: trailers !== undefined });
  stream.on("wantTrailers", () => stream.sendTrailers(trailers ?? {}));
  for (const each of messages) stream.write(framed(each));
  stream.end();
}

/** A status in headers alone, as servers send it that had nothing to say before. */
export function trailersOnly({ stream }: RawStream, trailers: Record<string, string>): void {
  stream.respond({ ...grpcHeaders, ...trailers }, { endStream: true });
}
