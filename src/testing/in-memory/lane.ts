import { status } from "@grpc/grpc-js";
import type { WireHeaders, WireTrailers } from "./headers.js";
import type { Direction, InMemoryNetwork } from "./network.js";

export type Frame =
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
export class Lane {
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
