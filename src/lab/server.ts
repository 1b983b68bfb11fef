import { nextTick } from "node:process";
import {
  Metadata,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  type ServerMethodDefinition,
  status as Status,
} from "@grpc/grpc-js";
import type { CancelTask } from "../core/clock.js";
import type { PartialStatus, ServerCall, ServerCallListener } from "../grpc/types.js";
import { trailersOnly } from "./call.js";
import { payload } from "./client.js";
import type { ServerCosts } from "./costs.js";
import type { Connection, Listener, Network, ServerEnd, Stream, WireRequest } from "./network.js";
import type { LabProcess } from "./process.js";

/** A call as its handler sees it. */
export interface HandlerCall {
  /** `lab.Service/Method`. */
  readonly method: string;
  /** The process that the handler runs in. */
  readonly process: LabProcess;
  /** Whether the call has ended before its handler answered: nobody hears the answer. */
  readonly cancelled: boolean;
  /** From now on, `stop` is called when the call ends before its handler has answered. */
  whenCancelled(stop: () => void): void;
  /** Sends a message of a stream, and goes on. */
  send(): void;
  /** Ends the call with OK: a unary one with a message. */
  answer(): void;
  fail(code: Status, details: string, metadata?: Metadata): void;
}

export type Handler = (call: HandlerCall) => void;

export interface ServerSetup {
  readonly network: Network;
  readonly process: LabProcess;
  readonly address: string;
  readonly costs: ServerCosts;
  /** The first is nearest to the wire. */
  readonly interceptors: readonly ServerInterceptor[];
  readonly handler: Handler;
  /** Called for each request that has arrived. */
  readonly onRequest?: (stream: Stream) => void;
  /**
   * How old connections become, in milliseconds, as `grpc.max_connection_age_ms`: then the server takes no more calls on
   * one, and those that run go on. Without the jitter of grpc-js. @defaultValue for ever
   */
  readonly maxConnectionAgeMs?: number | undefined;
}

/** The part of a grpc-js server that a drain needs. */
export interface DrainableServer {
  tryShutdown(callback: (error?: Error) => void): void;
  forceShutdown(): void;
}

type Definition = ServerMethodDefinition<Buffer, Buffer>;

const asItIs = (message: Buffer): Buffer => message;

/** A server as grpc-js makes it of its options, with one handler for all methods. Requests have a single message. */
export class LabServer implements Listener, DrainableServer {
  readonly process: LabProcess;
  readonly #setup: ServerSetup;
  #listening = true;
  #running = 0;
  #onIdle: (() => void) | undefined;

  constructor(setup: ServerSetup) {
    this.process = setup.process;
    this.#setup = setup;
    setup.network.listen(setup.address, this);
  }

  /** How many calls have come and not ended. */
  get open(): number {
    return this.#running;
  }

  get listening(): boolean {
    return this.#listening;
  }

  accept(connection: Connection): void {
    const { costs, maxConnectionAgeMs } = this.#setup;
    this.process.spend(costs.connect);
    if (maxConnectionAgeMs === undefined) return;
    this.process.schedule(maxConnectionAgeMs, () => connection.goAway());
  }

  /** Takes no more connections and calls, and calls back when those that run have ended. */
  tryShutdown(callback: (error?: Error) => void): void {
    this.#listening = false;
    const { network, address } = this.#setup;
    for (const connection of network.connectionsTo(address)) {
      if (connection.listener === this) connection.goAway();
    }
    this.#onIdle = callback;
    if (this.#running === 0) nextTick(callback);
  }

  forceShutdown(): void {
    this.process.kill();
  }

  readonly #callEnded = (): void => {
    this.#running -= 1;
    if (this.#running === 0) this.#onIdle?.();
  };

  serve(stream: Stream, request: WireRequest): void {
    const { costs, interceptors, handler, onRequest } = this.#setup;
    onRequest?.(stream);
    this.process.spend(costs.accept);
    this.process.beginCall();
    // As in grpc-js, each call has its own object, which must not be used as a key.
    const definition: Definition = {
      path: request.path,
      requestStream: false,
      responseStream: request.streaming,
      requestDeserialize: asItIs,
      responseSerialize: asItIs,
    };
    this.#running += 1;
    const base = new LabServerCall(this.process, costs, stream, request, this.#callEnded);
    const call = interceptors.reduce<ServerCall>(
      (below, interceptor) => interceptor(definition, below),
      base,
    );
    call.start(new RunningHandler(this.process, base, call, request, handler));
  }
}

/** The call of a server nearest to the wire, below all interceptors. */
class LabServerCall implements ServerCall, ServerEnd {
  /** Set when the handler is started. A call that is answered before is refused. */
  handled = false;
  readonly #process: LabProcess;
  readonly #costs: ServerCosts;
  readonly #stream: Stream;
  readonly #request: WireRequest;
  readonly #deadline: number;
  readonly #onEnd: () => void;
  #cancelTimer: CancelTask | undefined;
  #listener: ServerCallListener | undefined;
  /** What the next read gets. */
  #unread: "message" | "half-close" | "nothing" = "message";
  #reading = false;
  #headers: Metadata | undefined;
  #response: Buffer | undefined;
  #ended = false;

  constructor(
    process: LabProcess,
    costs: ServerCosts,
    stream: Stream,
    request: WireRequest,
    onEnd: () => void,
  ) {
    this.#process = process;
    this.#onEnd = onEnd;
    this.#costs = costs;
    this.#stream = stream;
    this.#request = request;
    stream.server = this;
    const { timeoutMs } = request;
    this.#deadline =
      timeoutMs === undefined ? Number.POSITIVE_INFINITY : process.wallNow() + timeoutMs;
    if (timeoutMs !== undefined) {
      this.#cancelTimer = process.schedule(timeoutMs, () => this.#expire());
    }
  }

  start(listener: ServerCallListener): void {
    if (this.#ended) return;
    this.#listener = listener;
    listener.onReceiveMetadata(this.#request.metadata);
  }

  startRead(): void {
    if (this.#ended || this.#reading || this.#unread === "nothing") return;
    this.#reading = true;
    nextTick(readNext, this);
  }

  /** For `startRead` alone. */
  readNext(): void {
    this.#reading = false;
    const listener = this.#listener;
    if (this.#ended || listener === undefined) return;
    if (this.#unread === "message") {
      this.#unread = "half-close";
      listener.onReceiveMessage(this.#request.message);
    } else {
      this.#unread = "nothing";
      listener.onReceiveHalfClose();
    }
  }

  sendMetadata(metadata: Metadata): void {
    if (this.#ended || this.#headers !== undefined) return;
    this.#headers = metadata.clone();
    if (this.#request.streaming) this.#push(undefined);
  }

  sendMessage(message: unknown, callback: () => void): void {
    if (this.#ended) return;
    const bytes = Buffer.isBuffer(message) ? message : undefined;
    if (this.#request.streaming) {
      this.sendMetadata(new Metadata());
      this.#process.spend(this.#costs.message);
      this.#push(bytes);
    } else {
      this.#headers ??= new Metadata();
      this.#response = bytes;
    }
    nextTick(callback);
  }

  sendStatus(status: PartialStatus): void {
    if (this.#ended) return;
    const { answer, refuse } = this.#costs;
    this.#process.spend(this.handled ? answer : refuse);
    this.#send(status);
  }

  getPeer(): string {
    return `${this.#stream.connection.client}:1`;
  }

  getDeadline(): number {
    return this.#deadline;
  }

  getHost(): string {
    return this.#request.host;
  }

  getAuthContext(): ReturnType<ServerCall["getAuthContext"]> {
    return {};
  }

  getConnectionInfo(): ReturnType<ServerCall["getConnectionInfo"]> {
    return {};
  }

  getMetricsRecorder(): never {
    throw new Error("there are no load reports in the lab");
  }

  cancelled(): void {
    if (this.#ended) return;
    this.#process.spend(this.#costs.cancel);
    this.#end();
  }

  /** As in grpc-js, interceptors are only told that the call has ended. */
  #expire(): void {
    if (this.#ended) return;
    this.#process.spend(this.#costs.cancel);
    this.#send({ code: Status.DEADLINE_EXCEEDED, details: "Deadline exceeded" });
  }

  #push(message: Buffer | undefined): void {
    const headers = message === undefined ? this.#headers : undefined;
    this.#stream.connection.push(this.#stream, { headers, message });
  }

  #send({ code, details, metadata }: PartialStatus): void {
    const headers = this.#headers;
    const trailers =
      headers === undefined ? trailersOnly(metadata) : (metadata?.clone() ?? new Metadata());
    this.#stream.connection.answer(this.#stream, {
      headers: this.#request.streaming ? undefined : headers,
      message: this.#response,
      status: { code, details: details ?? "", metadata: trailers },
    });
    this.#end();
  }

  #end(): void {
    this.#ended = true;
    this.#cancelTimer?.();
    this.#onEnd();
    nextTick(tellEnd, this);
  }

  /** For `#end` alone. */
  tellEnd(): void {
    this.#listener?.onCancel();
    this.#listener = undefined;
  }
}

const noThen = (): void => {};
const readNext = (call: LabServerCall): void => call.readNext();
const tellEnd = (call: LabServerCall): void => call.tellEnd();

/** The handler's side of a call: it starts the handler when the request is complete. */
class RunningHandler implements ServerCallListener, HandlerCall {
  readonly process: LabProcess;
  readonly #base: LabServerCall;
  readonly #call: Pick<ServerInterceptingCallInterface, "startRead" | "sendMessage" | "sendStatus">;
  readonly #request: WireRequest;
  readonly #handler: Handler;
  #cancelled = false;
  #stop: (() => void) | undefined;

  constructor(
    process: LabProcess,
    base: LabServerCall,
    call: ServerCall,
    request: WireRequest,
    handler: Handler,
  ) {
    this.process = process;
    this.#base = base;
    this.#call = call;
    this.#request = request;
    this.#handler = handler;
  }

  get method(): string {
    return this.#request.path.slice(1);
  }

  get cancelled(): boolean {
    return this.#cancelled;
  }

  onReceiveMetadata(): void {
    this.#call.startRead();
  }

  onReceiveMessage(): void {
    this.#call.startRead();
  }

  onReceiveHalfClose(): void {
    this.#base.handled = true;
    this.#handler(this);
  }

  onCancel(): void {
    this.#cancelled = true;
    this.#stop?.();
  }

  whenCancelled(stop: () => void): void {
    this.#stop = stop;
  }

  send(): void {
    this.#call.sendMessage(payload, noThen);
  }

  answer(): void {
    if (this.#request.streaming) {
      this.#call.sendStatus({ code: Status.OK, details: "OK", metadata: null });
      return;
    }
    this.#call.sendMessage(payload, () => {
      this.#call.sendStatus({ code: Status.OK, details: "OK", metadata: null });
    });
  }

  fail(code: Status, details: string, metadata: Metadata | null = null): void {
    this.#call.sendStatus({ code, details, metadata });
  }
}
