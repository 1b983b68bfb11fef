import { type Metadata, type StatusObject, status } from "@grpc/grpc-js";
import type { Connection } from "./connection.js";
import { fromWire, type WireHeaders, type WireTrailers } from "./headers.js";
import type { InMemoryNetwork } from "./network.js";
import { bareStatus, statusOfReset } from "./status.js";
import { type ClientEnd, rst, type Stream, type StreamHead } from "./stream.js";

/** The events of one stream. `refused`: the server has not looked at the request. */
export interface StreamListener {
  onReceiveMetadata(metadata: Metadata): void;
  onReceiveMessage(message: Buffer): void;
  onReceiveStatus(status: StatusObject, refused: boolean): void;
}

/** A call on one stream: it turns frames into events, one message for each `startRead`. */
export class SubchannelCall implements ClientEnd {
  readonly #network: InMemoryNetwork;
  readonly #connection: Connection;
  readonly #listener: StreamListener;
  readonly #maxReceive: number;
  readonly #stream: Stream;
  readonly #unpushed: Buffer[] = [];
  #canPush = false;
  #pushPending = false;
  #readsClosed = false;
  #serverEnded = false;
  #final: { readonly status: StatusObject; readonly refused: boolean } | undefined;
  #statusOutput = false;

  constructor(
    network: InMemoryNetwork,
    connection: Connection,
    head: StreamHead,
    listener: StreamListener,
    maxReceive: number,
  ) {
    this.#network = network;
    this.#connection = connection;
    this.#listener = listener;
    this.#maxReceive = maxReceive;
    this.#stream = connection.open(head, this);
  }

  get peer(): string {
    return this.#connection.serverAddress;
  }

  write(message: Buffer, written: () => void): void {
    const sent = (error: string | undefined, code: status) => {
      process.nextTick(() => {
        if (error !== undefined) this.#end(bareStatus(code, `Write error: ${error}`));
        written();
      });
    };
    if (this.#stream.clientEnded && !this.#statusOutput) {
      sent("write after end", status.INTERNAL);
      return;
    }
    this.#stream.clientWrites(message, (failed) =>
      sent(failed ? "stream closed" : undefined, status.UNAVAILABLE),
    );
  }

  halfClose(): void {
    this.#stream.clientEnds();
  }

  startRead(): void {
    if (this.#final !== undefined && this.#final.status.code !== status.OK) {
      this.#readsClosed = true;
      this.#maybeOutputStatus();
      return;
    }
    this.#canPush = true;
    const next = this.#unpushed.shift();
    if (next !== undefined) this.#push(next);
    else this.#stream.clientInbox.resume();
  }

  cancelWithStatus(code: status, details: string): void {
    this.#end(bareStatus(code, details));
  }

  headers(headers: WireHeaders): void {
    this.#listener.onReceiveMetadata(fromWire(headers));
  }

  data(message: Buffer): void {
    if (this.#statusOutput) return;
    if (this.#maxReceive !== -1 && message.length > this.#maxReceive) {
      const details = `Received message larger than max (${message.length} vs ${this.#maxReceive})`;
      this.cancelWithStatus(status.RESOURCE_EXHAUSTED, details);
    } else if (this.#canPush) {
      this.#stream.clientInbox.pause();
      this.#push(message);
    } else {
      // As in grpc-js, the stream flows into this array until the first `startRead`.
      this.#unpushed.push(message);
    }
  }

  end(): void {
    this.#readsClosed = true;
    this.#maybeOutputStatus();
  }

  trailers({ code, details, headers }: WireTrailers): void {
    this.#serverEnded = true;
    this.#end({ code, details, metadata: fromWire(headers) });
  }

  closed(code: number): void {
    this.#serverEnded = true;
    if (this.#final?.status.code === status.OK) return;
    if (code === rst.noError && this.#final !== undefined) return;
    this.#end(statusOfReset(code), code === rst.refusedStream);
  }

  dropped(): void {
    // As in grpc-js, the call may still end by itself in this turn of the event loop.
    this.#network.after(0, () => {
      this.#serverEnded = true;
      this.#end(bareStatus(status.UNAVAILABLE, "Connection dropped"));
    });
  }

  #end(final: StatusObject, refused = false): void {
    if (this.#final === undefined || this.#final.status.code === status.OK) {
      this.#final = { status: final, refused };
      this.#maybeOutputStatus();
    }
    if (this.#serverEnded) {
      this.#stream.clientEnds();
    } else {
      this.#stream.clientCloses(this.#final.status.code === status.OK ? rst.noError : rst.cancel);
    }
  }

  #push(message: Buffer): void {
    this.#canPush = false;
    this.#pushPending = true;
    process.nextTick(() => {
      this.#pushPending = false;
      if (this.#statusOutput) return;
      this.#listener.onReceiveMessage(message);
      this.#maybeOutputStatus();
    });
  }

  #maybeOutputStatus(): void {
    const final = this.#final;
    if (final === undefined || this.#statusOutput) return;
    const messagesRead = this.#readsClosed && this.#unpushed.length === 0 && !this.#pushPending;
    // As in grpc-js, OK waits until all messages are read, and any other status overtakes them.
    if (final.status.code === status.OK && !messagesRead) return;
    this.#statusOutput = true;
    process.nextTick(() => this.#listener.onReceiveStatus(final.status, final.refused));
    this.#stream.clientInbox.resume();
    if (this.#serverEnded) this.#stream.clientCloses();
  }
}
