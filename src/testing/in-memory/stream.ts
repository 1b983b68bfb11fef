import type { WireHeaders, WireTrailers } from "./headers.js";
import { Inbox, type InboxReader } from "./inbox.js";
import { type Frame, Lane, type Sent } from "./lane.js";
import type { InMemoryNetwork } from "./network.js";

/** Error codes of HTTP/2 that a stream may be reset with. */
export const rst = {
  noError: 0,
  internalError: 2,
  refusedStream: 7,
  cancel: 8,
} as const;

export interface StreamHead {
  readonly path: string;
  readonly authority: string;
  readonly headers: WireHeaders;
}

/** What the client's end of a stream is told. */
export interface ClientEnd extends InboxReader {
  headers(headers: WireHeaders): void;
  trailers(trailers: WireTrailers): void;
  /** Reset by the server's side. */
  closed(code: number): void;
  /** The connection broke. */
  dropped(): void;
}

/** What the server's end of a stream is told. */
export interface ServerEnd extends InboxReader {
  /** Reset by the client, or the connection broke. */
  closed(): void;
}

/** A request and its response on one connection: two lanes and an inbox at the end of each. */
export class Stream {
  readonly head: StreamHead;
  readonly clientInbox: Inbox;
  readonly #client: ClientEnd;
  readonly #arrived: (stream: Stream) => void;
  readonly #settled: (stream: Stream) => void;
  readonly #toServer: Lane;
  readonly #toClient: Lane;
  #server: ServerEnd | undefined;
  #serverInbox: Inbox | undefined;
  #clientEnded = false;
  #clientDone = false;
  #serverDone = false;
  #resetOnResponse = false;

  /** `arrived` is called when the head reaches the server, `settled` when neither end needs the stream. */
  constructor(
    network: InMemoryNetwork,
    head: StreamHead,
    client: ClientEnd,
    arrived: (stream: Stream) => void,
    settled: (stream: Stream) => void,
  ) {
    this.head = head;
    this.#client = client;
    this.#arrived = arrived;
    this.#settled = settled;
    this.#toServer = new Lane(network, "toServer", (frame) => this.#reachServer(frame));
    this.#toClient = new Lane(network, "toClient", (frame) => this.#reachClient(frame));
    this.clientInbox = new Inbox(client, true, (bytes) => this.#toClient.consumed(bytes));
    this.#toServer.send({ kind: "headers", headers: head.headers });
  }

  // The client's side.

  get clientEnded(): boolean {
    return this.#clientEnded;
  }

  clientWrites(message: Buffer, sent: Sent): void {
    this.#toServer.send({ kind: "data", message }, sent);
  }

  clientEnds(): void {
    if (this.#clientEnded) return;
    this.#clientEnded = true;
    this.#toServer.send({ kind: "end" });
  }

  /** The client is done with the stream. Without a code it lets what it wrote go out. */
  clientCloses(code?: number): void {
    if (this.#clientDone) return;
    this.#clientDone = true;
    // Node ends the stream before it resets it, so a server sees an ordinary end of the request
    // first, unless data that the window held back is in the way.
    if (!this.#toServer.blocked) this.clientEnds();
    if (code !== undefined) this.#toServer.reset(code);
    this.#settle();
  }

  // The server's side.

  /** Gives the stream to the server. */
  serve(server: ServerEnd): Inbox {
    this.#server = server;
    this.#serverInbox = new Inbox(server, false, (bytes) => this.#toServer.consumed(bytes));
    return this.#serverInbox;
  }

  /** From now on the first thing that the server sends turns into a reset. */
  resetOnResponse(): void {
    this.#resetOnResponse = true;
  }

  serverResponds(headers: WireHeaders): void {
    this.#serverSends({ kind: "headers", headers });
  }

  serverWrites(message: Buffer, sent: Sent): void {
    this.#serverSends({ kind: "data", message }, sent);
  }

  serverFinishes(trailers: WireTrailers, sent: Sent): void {
    this.#serverSends({ kind: "trailers", trailers }, sent);
  }

  serverResets(code: number): void {
    this.#toClient.reset(code);
    this.#closeServer();
  }

  /** The server's call has ended. */
  serverCloses(): void {
    this.#serverDone = true;
    this.#settle();
  }

  // The connection's side.

  /** The server's process is gone. */
  loseServer(): void {
    this.#toClient.close();
    this.#closeServer();
  }

  /** The client notices that the connection broke. */
  loseClient(): void {
    this.#toServer.close();
    if (!this.#clientDone) this.#client.dropped();
  }

  #serverSends(frame: Frame, sent?: Sent): void {
    if (this.#resetOnResponse) this.serverResets(rst.internalError);
    this.#toClient.send(frame, sent);
  }

  #reachServer(frame: Frame): void {
    if (this.#serverDone) {
      if (frame.kind === "data") this.#toServer.consumed(frame.message.length);
    } else if (frame.kind === "headers") {
      this.#arrived(this);
    } else if (frame.kind === "data") {
      this.#serverInbox?.accept(frame.message);
    } else if (frame.kind === "end") {
      this.#serverInbox?.acceptEnd();
    } else {
      this.#closeServer();
    }
  }

  #closeServer(): void {
    if (this.#serverDone) return;
    this.#toClient.close();
    // One tick later, as a stream's 'close' follows its 'end'.
    const server = this.#server;
    if (server !== undefined) process.nextTick(() => server.closed());
    this.serverCloses();
  }

  #reachClient(frame: Frame): void {
    if (this.#clientDone) {
      if (frame.kind === "data") this.#toClient.consumed(frame.message.length);
    } else if (frame.kind === "headers") {
      process.nextTick(() => this.#client.headers(frame.headers));
    } else if (frame.kind === "data") {
      this.clientInbox.accept(frame.message);
    } else if (frame.kind === "trailers") {
      process.nextTick(() => this.#client.trailers(frame.trailers));
      this.clientInbox.acceptEnd();
    } else if (frame.kind === "reset") {
      this.#toServer.close();
      process.nextTick(() => this.#client.closed(frame.code));
    }
  }

  #settle(): void {
    if (this.#clientDone && (this.#serverDone || this.#server === undefined)) this.#settled(this);
  }
}
