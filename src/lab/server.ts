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
import type { Listener, Network, ServerEnd, Stream, WireRequest } from "./network.js";
import type { LabProcess } from "./process.js";

/** A call as its handler sees it. */
export interface HandlerCall {
  /** `lab.Service/Method`. */
  readonly method: string;
  /** The process that the handler runs in. */
  readonly process: LabProcess;
  /** Whether the call has ended before its handler answered: nobody hears the answer. */
  readonly cancelled: boolean;
  answer(): void;
  fail(code: Status, details: string): void;
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
  readonly onRequest?: () => void;
}

type Definition = ServerMethodDefinition<Buffer, Buffer>;

const asItIs = (message: Buffer): Buffer => message;

/** A server as grpc-js makes it of its options, with one handler for all unary methods. */
export class LabServer implements Listener {
  readonly process: LabProcess;
  readonly #setup: ServerSetup;
  readonly #calls: OpenCalls = { count: 0 };

  constructor(setup: ServerSetup) {
    this.process = setup.process;
    this.#setup = setup;
    setup.network.listen(setup.address, this);
  }

  /** How many calls have come and not ended. */
  get open(): number {
    return this.#calls.count;
  }

  accept(): void {
    this.process.spend(this.#setup.costs.connect);
  }

  serve(stream: Stream, request: WireRequest): void {
    const { costs, interceptors, handler, onRequest } = this.#setup;
    onRequest?.();
    this.process.spend(costs.accept);
    // As in grpc-js, each call has its own object, which must not be used as a key.
    const definition: Definition = {
      path: request.path,
      requestStream: false,
      responseStream: false,
      requestDeserialize: asItIs,
      responseSerialize: asItIs,
    };
    const base = new LabServerCall(this.process, costs, stream, request, this.#calls);
    const call = interceptors.reduce<ServerCall>(
      (below, interceptor) => interceptor(definition, below),
      base,
    );
    call.start(new RunningHandler(this.process, base, call, request.path, handler));
  }
}

/** How many calls of a server have not ended. */
interface OpenCalls {
  count: number;
}

/** The call of a server nearest to the wire, below all interceptors. */
class LabServerCall implements ServerCall, ServerEnd {
  /** Set when the handler is started. A call that is answered before is refused. */
  handled = false;
  readonly #process: LabProcess;
  readonly #costs: ServerCosts;
  readonly #stream: Stream;
  readonly #request: WireRequest;
  readonly #calls: OpenCalls;
  readonly #deadline: number;
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
    calls: OpenCalls,
  ) {
    this.#process = process;
    this.#calls = calls;
    calls.count += 1;
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
    if (!this.#ended) this.#headers ??= metadata.clone();
  }

  sendMessage(message: unknown, callback: () => void): void {
    if (this.#ended) return;
    this.#headers ??= new Metadata();
    if (Buffer.isBuffer(message)) this.#response = message;
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

  #send({ code, details, metadata }: PartialStatus): void {
    const headers = this.#headers;
    const trailers =
      headers === undefined ? trailersOnly(metadata) : (metadata?.clone() ?? new Metadata());
    this.#stream.connection.answer(this.#stream, {
      headers,
      message: this.#response,
      status: { code, details: details ?? "", metadata: trailers },
    });
    this.#end();
  }

  #end(): void {
    this.#ended = true;
    this.#calls.count -= 1;
    this.#cancelTimer?.();
    nextTick(tellEnd, this);
  }

  /** For `#end` alone. */
  tellEnd(): void {
    this.#listener?.onCancel();
    this.#listener = undefined;
  }
}

const readNext = (call: LabServerCall): void => call.readNext();
const tellEnd = (call: LabServerCall): void => call.tellEnd();

/** The handler's side of a unary call: it starts the handler when the request is complete. */
class RunningHandler implements ServerCallListener, HandlerCall {
  readonly process: LabProcess;
  readonly #base: LabServerCall;
  readonly #call: Pick<ServerInterceptingCallInterface, "startRead" | "sendMessage" | "sendStatus">;
  readonly #path: string;
  readonly #handler: Handler;
  #cancelled = false;

  constructor(
    process: LabProcess,
    base: LabServerCall,
    call: ServerCall,
    path: string,
    handler: Handler,
  ) {
    this.process = process;
    this.#base = base;
    this.#call = call;
    this.#path = path;
    this.#handler = handler;
  }

  get method(): string {
    return this.#path.slice(1);
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
  }

  answer(): void {
    this.#call.sendMessage(payload, () => {
      this.#call.sendStatus({ code: Status.OK, details: "OK", metadata: null });
    });
  }

  fail(code: Status, details: string): void {
    this.#call.sendStatus({ code, details, metadata: null });
  }
}
