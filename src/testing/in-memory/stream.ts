import { status } from "@grpc/grpc-js";
import type { WireHeaders, WireTrailers } from "./headers.js";
import type { Direction, InMemoryNetwork } from "./network.js";

/** The error codes of HTTP/2 with which a stream may be reset. */
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

/** The client side of a stream. */
export interface ClientEnd extends InboxReader {
  headers(headers: WireHeaders): void;
  trailers(trailers: WireTrailers): void;
  /** The server has reset the stream. */
  closed(code: number): void;
  /** The connection broke. */
  dropped(): void;
}

/** The server side of a stream. */
export interface ServerEnd extends InboxReader {
  /** The client has reset the stream, or the connection broke. */
  closed(): void;
}

/** A request and its response on one connection: a {@link Lane} for each direction, with an {@link Inbox} at its end. */
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

  /** `arrived` is called when the head reaches the server, `settled` when neither side needs the stream any more. */
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

  /** The client has ended the stream: with a code it resets the stream, and without one its writes are still sent. */
  clientCloses(code?: number): void {
    if (this.#clientDone) return;
    this.#clientDone = true;
    // Node ends a stream before it resets it. So the server sees an ordinary end of the request first, unless the
    // flow-control window holds back data before it.
    if (!this.#toServer.blocked) this.clientEnds();
    if (code !== undefined) this.#toServer.reset(code);
    this.#settle();
  }

  // The server's side.

  /** Attaches the server to the stream. */
  serve(server: ServerEnd): Inbox {
    this.#server = server;
    this.#serverInbox = new Inbox(server, false, (bytes) => this.#toServer.consumed(bytes));
    return this.#serverInbox;
  }

  /** Resets the stream when the server first sends something. */
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

  /** The call of the server has ended. */
  serverCloses(): void {
    this.#serverDone = true;
    this.#settle();
  }

  // The connection's side.

  /** The server has lost the connection. */
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
    // One tick later, as the 'close' of a stream follows its 'end'.
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

/** Is called when a frame is on the wire. `failed`: the stream was closed before. */
export type Sent = (failed: boolean) => void;

interface Packet {
  readonly frames: Frame[];
  readonly sentAt: number;
}

/** How many unread bytes a stream may have in one direction: the initial window of HTTP/2. */
const windowBytes = 65_535;

/**
 * Whether a frame is a packet of its own. A failure drops what its reader has not read yet. As over a socket, a reader
 * that keeps up can read the data before it, because the two are separate packets.
 */
function overtakes(frame: Frame): boolean {
  return frame.kind === "trailers" && frame.trailers.code !== status.OK;
}

/** One direction of a stream, with its order, flow control, latency and loss. */
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

  /** Sends a reset, which overtakes blocked frames, and closes the lane. */
  reset(code: number): void {
    if (this.#closed) return;
    this.close();
    this.#dispatch({ frames: [{ kind: "reset", code }], sentAt: Number.NaN });
  }

  /** Sends nothing more. Packets that were sent still arrive. */
  close(): void {
    this.#closed = true;
    const blocked = this.#blocked;
    this.#blocked = [];
    for (const { sent } of blocked) process.nextTick(sent, true);
  }

  /** The other side has read so many bytes. A window update takes no time. */
  consumed(bytes: number): void {
    this.#unread -= bytes;
    for (;;) {
      const next = this.#blocked[0];
      if (next === undefined || !this.#fits(next.frame)) return;
      this.#blocked.shift();
      this.#transmit(next.frame, next.sent);
    }
  }

  /** Whether a frame fits into the window. A message larger than the window is sent when all others have been read. */
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
    // Over TCP nothing arrives after a gap, so nothing arrives in this direction after the first loss.
    if (this.#lossy || this.#network.loses(this.#direction)) {
      this.#lossy = true;
      return;
    }
    const now = this.#network.clock.now();
    const arrival = Math.max(this.#lastArrival, now + this.#network.latencyMs(this.#direction));
    this.#lastArrival = arrival;
    this.#travelling.push(packet);
    // Each timer delivers the first packet of the queue, whichever packet it was set for: the times of timers are
    // rounded, and rounding must not change the order.
    this.#network.after(arrival - now, () => {
      const frames = this.#travelling.shift()?.frames ?? [];
      for (const frame of frames) this.#deliver(frame);
    });
  }
}

/** The reader of an {@link Inbox}. */
interface InboxReader {
  data(message: Buffer): void;
  /** The end of the data. Called once, after all data has been read. */
  end(): void;
}

/**
 * The readable side of a stream. It behaves like a stream of Node: while it flows, messages go to the reader at once.
 * While it is paused, they wait here, and their bytes count against the window of the sender.
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
    // As in Node, a paused stream too gets its end as soon as nothing is left to read.
    if (this.#ended && this.#waiting.length === 0 && !this.#endTold) {
      this.#endTold = true;
      process.nextTick(() => this.#reader.end());
    }
  }
}
