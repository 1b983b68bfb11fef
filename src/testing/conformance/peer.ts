import assert from "node:assert/strict";
import type {
  Metadata,
  ServerDuplexStream,
  ServerErrorResponse,
  ServerReadableStream,
  ServerUnaryCall,
  ServerWritableStream,
  sendUnaryData,
} from "@grpc/grpc-js";
import type { ConformanceServiceServer } from "../../gen/weir/v1/conformance.js";
import type { CallKind } from "../../grpc/types.js";
import { Changes } from "./changes.js";
import { type Message, message } from "./message.js";

/** What a handler does with a call. It may throw. If its promise rejects, the case fails. */
export type Script = (peer: Peer) => undefined | Promise<void>;

/** A handler that waits for the whole request, sends these responses, and ends with OK. */
export function answering(...responses: readonly Message[]): Script {
  return async (peer) => {
    await peer.halfClosed();
    for (const each of responses) await peer.send(each);
    peer.finish();
  };
}

type Failure = Pick<ServerErrorResponse, "code" | "details" | "metadata">;
type Handled = Pick<
  ServerUnaryCall<Message, Message>,
  "metadata" | "sendMetadata" | "getDeadline"
> & {
  on(event: "cancelled", task: () => void): unknown;
};
type Reader = ServerReadableStream<Message, unknown> | ServerDuplexStream<Message, Message>;
type Writer = ServerWritableStream<Message, Message> | ServerDuplexStream<Message, Message>;

interface Ends {
  readonly call: Handled;
  readonly request?: Message;
  readonly reader?: Reader;
  readonly writer?: Writer;
  readonly respond?: sendUnaryData<Message>;
}

/** The handler side of one call of any kind. It reads no requests until the script wants them. */
export class Peer {
  readonly kind: CallKind;
  readonly metadata: Metadata;
  readonly requests: Message[] = [];
  readonly #changes = new Changes();
  readonly #ends: Ends;
  readonly #faults: string[] = [];
  #response: Message | undefined;
  #reading = false;
  #halfCloses = 0;
  #cancels = 0;

  constructor(kind: CallKind, ends: Ends) {
    this.kind = kind;
    this.metadata = ends.call.metadata;
    this.#ends = ends;
    if (ends.request !== undefined) {
      // A handler without request stream runs after the half-close of the client.
      this.requests.push(ends.request);
      this.#halfCloses = 1;
    }
    ends.call.on("cancelled", () => this.#note(() => (this.#cancels += 1)));
  }

  /** The deadline in milliseconds since the epoch, or `Infinity`. */
  deadline(): number {
    return Number(this.#ends.call.getDeadline());
  }

  /** Resolves when `count` requests have come. */
  received(count: number): Promise<void> {
    this.read();
    return this.#changes.when(() => this.requests.length >= count);
  }

  /** Resolves when the client has half-closed. */
  halfClosed(): Promise<void> {
    this.read();
    return this.#changes.when(() => this.#halfCloses > 0);
  }

  /** Resolves when the handler gets `cancelled`, which grpc-js emits at the end of each call. */
  cancelled(): Promise<void> {
    return this.#changes.when(() => this.#cancels > 0);
  }

  read(): void {
    const { reader } = this.#ends;
    if (this.#reading || reader === undefined) return;
    this.#reading = true;
    reader.on("data", (request: Message) =>
      this.#note(() => {
        if (this.#halfCloses > 0) this.#faults.push("a request came after the half-close");
        this.requests.push(request);
      }),
    );
    reader.on("end", () => this.#note(() => (this.#halfCloses += 1)));
  }

  sendHeaders(headers: Metadata): void {
    this.#ends.call.sendMetadata(headers);
  }

  /** Resolves when the write is called back. A single response is kept until `finish`. */
  send(response: Message): Promise<void> {
    const { writer } = this.#ends;
    if (writer === undefined) {
      this.#response = response;
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      writer.write(response, () => resolve());
    });
  }

  finish(trailers?: Metadata): void {
    const { writer, respond } = this.#ends;
    writer?.end(trailers);
    respond?.(null, this.#response ?? message(1), trailers);
  }

  fail(failure: Failure): void {
    const { writer, respond } = this.#ends;
    writer?.emit("error", failure);
    respond?.(failure);
  }

  /** Checks what must be true for each handler, however the call ended. */
  verify(): void {
    assert.deepEqual(this.#faults, []);
    assert.equal(this.#cancels, 1, "the handler did not get the end of the call exactly once");
    assert.ok(this.#halfCloses <= 1, "the handler got the half-close more than once");
  }

  #note(change: () => void): void {
    change();
    this.#changes.notify();
  }
}

/** A service whose handlers all run the same script. */
export function scriptedService(run: (peer: Peer) => void): ConformanceServiceServer {
  return {
    unary: (call, respond) => run(new Peer("unary", { call, request: call.request, respond })),
    clientStream: (call, respond) => {
      const respondOnce: sendUnaryData<Message> = (failure, response, trailers) =>
        respond(
          failure,
          response && { payload: response.payload, sequences: [response.sequence] },
          trailers,
        );
      run(new Peer("client-stream", { call, reader: call, respond: respondOnce }));
    },
    serverStream: (call) =>
      run(new Peer("server-stream", { call, request: call.request, writer: call })),
    bidiStream: (call) => run(new Peer("bidi", { call, reader: call, writer: call })),
  };
}

/** Runs the script of a case for each call that reaches the server. */
export class Handlers {
  readonly peers: Peer[] = [];
  script: Script = () => {};
  readonly #changes = new Changes();
  readonly #failed: Promise<never>;
  #fail: (reason: unknown) => void = () => {};

  constructor() {
    this.#failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.#failed.catch(() => {}); // whoever waits with `orFail` gets the error
  }

  /** An error that the script throws at once goes to grpc-js. If its promise rejects, the case fails. */
  run(peer: Peer): void {
    this.peers.push(peer);
    this.#changes.notify();
    this.script(peer)?.catch(this.#fail);
  }

  /** The handler side of the call that reached the server as number `index`, from 0. */
  async peer(index: number): Promise<Peer> {
    await this.#changes.when(() => this.peers.length > index);
    const peer = this.peers[index];
    if (peer === undefined) throw new RangeError(`no call ${index}`);
    return peer;
  }

  /** Waits for the promise, and rejects if a script fails before. */
  orFail<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.#failed]);
  }
}
