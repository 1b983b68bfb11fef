import {
  Metadata,
  type ServerInterceptingCallInterface,
  type ServerMethodDefinition,
  status,
} from "@grpc/grpc-js";
import type { CancelTask } from "../../core/clock.js";
import type { PartialStatus, ServerCallListener } from "../../grpc/types.js";
import type { Connection } from "./connection.js";
import { fromWire, parseTimeout, responseHeaders, toWire } from "./headers.js";
import type { InMemoryNetwork } from "./network.js";
import type { Inbox, ServerEnd, Stream } from "./stream.js";

type MethodDefinition = ServerMethodDefinition<unknown, unknown>;
type Queued =
  | { readonly kind: "half-close" }
  | { readonly kind: "message"; value: unknown; ready: boolean };

const maxReceiveBytes = 4 * 1024 * 1024;
/** The headers that grpc-js and Node remove from a request before interceptors see its metadata. */
const hidden = ["grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "accept-encoding"];

/** The call of a server nearest to the wire, below all interceptors. */
export class InMemoryServerCall implements ServerInterceptingCallInterface, ServerEnd {
  readonly #network: InMemoryNetwork;
  readonly #connection: Connection;
  readonly #stream: Stream;
  /** As in grpc-js, whose interceptors may replace it. */
  protected handler: {
    readonly deserialize: MethodDefinition["requestDeserialize"];
    readonly serialize: MethodDefinition["responseSerialize"];
  };
  readonly #onEnd: () => void;
  readonly #inbox: Inbox;
  readonly #metadata: Metadata;
  readonly #metrics = metricsRecorder();
  readonly #queue: Queued[] = [];
  #deadline = Number.POSITIVE_INFINITY;
  #cancelTimer: CancelTask = () => {};
  #listener: ServerCallListener | undefined;
  #readPending = false;
  #halfClosed = false;
  #metadataSent = false;
  #finishing = false;
  #ended = false;

  constructor(
    network: InMemoryNetwork,
    connection: Connection,
    stream: Stream,
    method: MethodDefinition,
    onEnd: () => void,
  ) {
    this.#network = network;
    this.#connection = connection;
    this.#stream = stream;
    const { requestDeserialize: deserialize, responseSerialize: serialize } = method;
    this.handler = { deserialize, serialize };
    this.#onEnd = onEnd;
    this.#inbox = stream.serve(this);
    this.#metadata = fromWire(stream.head.headers);
    const timeout = stream.head.headers["grpc-timeout"];
    if (timeout !== undefined) this.#applyTimeout(timeout);
    for (const key of hidden) this.#metadata.remove(key);
  }

  start(listener: ServerCallListener): void {
    if (this.#ended) return;
    this.#listener = listener;
    listener.onReceiveMetadata(this.#metadata);
  }

  startRead(): void {
    if (this.#ended) return;
    this.#readPending = true;
    if (this.#queue.length > 0) this.#pushNext();
    else if (!this.#halfClosed) this.#inbox.resume();
  }

  sendMetadata(metadata: Metadata): void {
    if (this.#ended || this.#metadataSent) return;
    this.#metadataSent = true;
    const wallNow = this.#network.clock.wallNow();
    this.#stream.serverResponds(responseHeaders(toWire(metadata), wallNow));
  }

  sendMessage(message: unknown, callback: () => void): void {
    if (this.#ended) return;
    let response: Buffer;
    try {
      response = this.handler.serialize(message);
    } catch {
      this.sendStatus({ code: status.INTERNAL, details: "Error serializing response" });
      return;
    }
    if (!this.#metadataSent) this.sendMetadata(new Metadata());
    // As in grpc-js, which copies each message here to put a header before it.
    this.#stream.serverWrites(Buffer.from(response), (failed) => {
      if (failed) this.sendStatus({ code: status.INTERNAL, details: "Internal server error" });
      else callback();
    });
  }

  sendStatus({ code, details, metadata }: PartialStatus): void {
    if (this.#ended) return;
    const custom = toWire(metadata?.clone() ?? new Metadata());
    if (!this.#metadataSent) {
      const headers = responseHeaders(custom, this.#network.clock.wallNow());
      this.#stream.serverFinishes({ code, details, headers }, () => {});
      this.#end();
    } else if (this.#finishing) {
      this.#end();
    } else {
      this.#finishing = true;
      // The call lasts until everything that was written before is on the wire.
      this.#stream.serverFinishes({ code, details, headers: custom }, () => this.#end());
    }
  }

  getPeer(): string {
    return this.#connection.clientAddress;
  }

  getDeadline(): number {
    return this.#deadline;
  }

  getHost(): string {
    return this.#stream.head.authority;
  }

  getAuthContext(): ReturnType<ServerInterceptingCallInterface["getAuthContext"]> {
    return {};
  }

  getConnectionInfo(): ReturnType<ServerInterceptingCallInterface["getConnectionInfo"]> {
    const [localAddress, localPort] = this.#connection.serverAddress.split(":");
    const [remoteAddress, remotePort] = this.#connection.clientAddress.split(":");
    return {
      localAddress,
      localPort: Number(localPort),
      remoteAddress,
      remotePort: Number(remotePort),
    };
  }

  getMetricsRecorder(): ReturnType<ServerInterceptingCallInterface["getMetricsRecorder"]> {
    return this.#metrics;
  }

  data(message: Buffer): void {
    if (this.#ended) return;
    if (message.length > maxReceiveBytes) {
      const details = `Received message larger than max (${message.length} vs ${maxReceiveBytes})`;
      this.sendStatus({ code: status.RESOURCE_EXHAUSTED, details });
      return;
    }
    this.#inbox.pause();
    const queued: Queued = { kind: "message", value: undefined, ready: false };
    this.#queue.push(queued);
    void Promise.resolve().then(() => {
      try {
        queued.value = this.handler.deserialize(message);
      } catch {
        this.sendStatus({ code: status.INTERNAL, details: "Error deserializing request" });
        return;
      }
      queued.ready = true;
      this.#pushNext();
    });
  }

  end(): void {
    this.#queue.push({ kind: "half-close" });
    this.#halfClosed = true;
    this.#pushNext();
  }

  closed(): void {
    this.#end();
  }

  #pushNext(): void {
    const next = this.#queue[0];
    if (this.#listener === undefined || !this.#readPending || next === undefined) return;
    if (next.kind === "message" && !next.ready) return;
    this.#readPending = false;
    this.#queue.shift();
    if (next.kind === "message") this.#listener.onReceiveMessage(next.value);
    else this.#listener.onReceiveHalfClose();
  }

  #applyTimeout(header: string): void {
    const timeoutMs = parseTimeout(header);
    if (timeoutMs === undefined) {
      const details = `Invalid grpc-timeout value "${header}"`;
      process.nextTick(() => this.sendStatus({ code: status.INTERNAL, details }));
      return;
    }
    const { clock } = this.#network;
    this.#deadline = clock.wallNow() + timeoutMs;
    this.#cancelTimer = this.#network.after(timeoutMs, () => {
      this.sendStatus({ code: status.DEADLINE_EXCEEDED, details: "Deadline exceeded" });
    });
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    process.nextTick(() => this.#listener?.onCancel());
    this.#cancelTimer();
    this.#inbox.resume();
    this.#stream.serverCloses();
    this.#onEnd();
  }
}

type MetricsRecorder = ReturnType<ServerInterceptingCallInterface["getMetricsRecorder"]>;

/** A recorder that drops its measurements, as in grpc-js without `grpc.server_call_metric_recording`. */
function metricsRecorder(): MetricsRecorder {
  const ignore = () => {};
  const recorder: Record<keyof MetricsRecorder, unknown> = {
    recordRequestCostMetric: ignore,
    recordUtilizationMetric: ignore,
    recordNamedMetric: ignore,
    recordCPUUtilizationMetric: ignore,
    recordMemoryUtilizationMetric: ignore,
    recordApplicationUtilizationMetric: ignore,
    recordQpsMetric: ignore,
    recordEpsMetric: ignore,
    serialize: () => Buffer.alloc(0),
  };
  // grpc-js does not export the class, and a private field keeps other classes from implementing it.
  return recorder as unknown as MetricsRecorder;
}
