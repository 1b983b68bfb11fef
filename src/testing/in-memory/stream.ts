import { status } from "@grpc/grpc-js";
import type { WireHeaders, WireTrailers } from "./headers.js";
import type { Direction, InMemoryNetwork } from "./network.js";

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

type Frame =
  | { readonly kind: "headers"; readonly headers: WireHeaders }
  | { readonly kind: "data"; readonly message: Buffer }
  | { readonly kind: "end" }
  | { readonly kind: "trailers"; readonly trailers: WireTrailers }
  | { readonly kind: "reset"; readonly code: number };

/** Told once a frame is on the wire; `failed` when the stream closed before. */
export type Sent = (failed: boolean) => void;

interface Packet {
  readonly frames: Frame[];
  readonly sentAt: number;
}

/** Unread bytes that a stream may have under way in one direction: the initial window of HTTP/2. */
const windowBytes = 65_535;

/**
 * A failure drops whatever its reader has not read yet. Apart from the data before it, it leaves a
 * reader that keeps up the time to read all, as over a socket.
 */
function overtakes(frame: Frame): boolean {
  return frame.kind === "trailers" && frame.trailers.code !== status.OK;
}

/** One direction of one stream: order, flow control, latency, loss. */
class Lane {
  readonly #network: InMemoryNetwork;
  readonly #direction: Direction;
  readonly #deliver: (frame: Frame) => void;
  readonly #travelling: Packet[] = [];
  #blocked: { readonly frame: Frame; readonly sent: Sent }[] = [];
  #unread = 0;
  #lastArrival = 0;
  #lossy = false;
  #closed = false;

  constructor(network: InMemoryNetwork, direction: Direction, deliver: (frame: Frame) => void) {
    this.#network = network;
    this.#direction = direction;
    this.#deliver = deliver;
  }

  get blocked(): boolean {
    return this.#blocked.length > 0;
  }

  send(frame: Frame, sent: Sent = () => {}): void {
    if (this.#closed) {
      process.nextTick(sent, true);
    } else if (this.blocked || !this.#fits(frame)) {
      this.#blocked.push({ frame, sent });
    } else {
      this.#transmit(frame, sent);
    }
  }

  /** Sends a reset, which overtakes what is blocked, and closes the lane. */
  reset(code: number): void {
    if (this.#closed) return;
    this.close();
    this.#dispatch({ frames: [{ kind: "reset", code }], sentAt: Number.NaN });
  }

  /** Nothing more leaves; what is under way still arrives. */
  close(): void {
    this.#closed = true;
    const blocked = this.#blocked;
    this.#blocked = [];
    for (const { sent } of blocked) process.nextTick(sent, true);
  }

  /** The other side read so many bytes. Window updates cost no time. */
  consumed(bytes: number): void {
    this.#unread -= bytes;
    for (;;) {
      const next = this.#blocked[0];
      if (next === undefined || !this.#fits(next.frame)) return;
      this.#blocked.shift();
      this.#transmit(next.frame, next.sent);
    }
  }

  /** A message larger than the window goes when nothing else is under way, or it never would. */
  #fits(frame: Frame): boolean {
    if (frame.kind !== "data" || this.#unread === 0) return true;
    return this.#unread + frame.message.length <= windowBytes;
  }

  #transmit(frame: Frame, sent: Sent): void {
    if (frame.kind === "data") this.#unread += frame.message.length;
    process.nextTick(sent, false);
    const now = this.#network.clock.now();
    const last = this.#travelling.at(-1);
    if (last?.sentAt === now && !overtakes(frame)) last.frames.push(frame);
    else this.#dispatch({ frames: [frame], sentAt: now });
  }

  #dispatch(packet: Packet): void {
    // Over TCP nothing arrives after a gap, so the first loss silences this direction for good.
    if (this.#lossy || this.#network.loses(this.#direction)) {
      this.#lossy = true;
      return;
    }
    const now = this.#network.clock.now();
    const arrival = Math.max(this.#lastArrival, now + this.#network.latencyMs(this.#direction));
    this.#lastArrival = arrival;
    this.#travelling.push(packet);
    // The head of the queue arrives, whichever packet this timer was set for: the difference of two
    // times may be rounded, and must not turn their order round.
    this.#network.after(arrival - now, () => {
      const frames = this.#travelling.shift()?.frames ?? [];
      for (const frame of frames) this.#deliver(frame);
    });
  }
}

/** What the reader of a stream is told. */
interface InboxReader {
  data(message: Buffer): void;
  /** No more data will come; told once everything before it was read. */
  end(): void;
}

/**
 * The readable side of a stream, with the manners of a Node stream: while it flows, what arrives is
 * handed on at once; paused, it waits here and its bytes count against the sender's window.
 */
export class Inbox {
  readonly #reader: InboxReader;
  readonly #consumed: (bytes: number) => void;
  readonly #waiting: Buffer[] = [];
  #flowing: boolean;
  #resuming = false;
  #ended = false;
  #endTold = false;

  constructor(reader: InboxReader, flowing: boolean, consumed: (bytes: number) => void) {
    this.#reader = reader;
    this.#flowing = flowing;
    this.#consumed = consumed;
  }

  accept(message: Buffer): void {
    this.#waiting.push(message);
    if (!this.#resuming) this.#drain();
  }

  acceptEnd(): void {
    this.#ended = true;
    if (!this.#resuming) this.#drain();
  }

  pause(): void {
    this.#flowing = false;
  }

  resume(): void {
    if (this.#flowing) return;
    this.#flowing = true;
    if (this.#resuming) return;
    this.#resuming = true;
    process.nextTick(() => {
      this.#resuming = false;
      this.#drain();
    });
  }

  #drain(): void {
    while (this.#flowing) {
      const message = this.#waiting.shift();
      if (message === undefined) break;
      this.#consumed(message.length);
      this.#reader.data(message);
    }
    // The end needs no flow: Node tells it as soon as nothing is left to read.
    if (this.#ended && this.#waiting.length === 0 && !this.#endTold) {
      this.#endTold = true;
      process.nextTick(() => this.#reader.end());
    }
  }
}
