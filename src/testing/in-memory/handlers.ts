import { Duplex, Writable } from "node:stream";
import {
  Metadata,
  type ServerInterceptingCallInterface,
  type ServerMethodDefinition,
  status,
} from "@grpc/grpc-js";
import type { PartialStatus, ServerCallListener } from "../../grpc/types.js";

/** A handler of any kind. `respond` is `undefined` for handlers that answer with a stream. */
export type Handler = (call: unknown, respond: Respond | undefined) => void;
export type Respond = (error: unknown, value?: unknown, trailers?: Metadata) => void;
type Method = Pick<
  ServerMethodDefinition<unknown, unknown>,
  "path" | "requestStream" | "responseStream"
>;
type Below = ServerInterceptingCallInterface;

/** Starts a call and runs its handler above all interceptors, as grpc-js does. */
export function runHandler(below: Below, method: Method, handler: Handler): void {
  below.start(
    method.requestStream
      ? streamingListener(below, method, handler)
      : singleListener(below, method, handler),
  );
}

function responder(below: Below): Respond {
  return (error, value, trailers) => {
    if (error !== null && error !== undefined && error !== false) {
      below.sendStatus(errorToStatus(error, trailers));
      return;
    }
    below.sendMessage(value, () => {
      below.sendStatus({ code: status.OK, details: "OK", metadata: trailers ?? null });
    });
  };
}

function invoke(below: Below, method: Method, handler: Handler, call: unknown): void {
  try {
    handler(call, method.responseStream ? undefined : responder(below));
  } catch {
    below.sendStatus({ code: status.UNKNOWN, details: "Unknown error", metadata: null });
  }
}

/** For methods with one request: the handler runs when the client has half-closed. */
function singleListener(below: Below, method: Method, handler: Handler): ServerCallListener {
  let call: ReturnType<typeof writableSurface> | undefined;
  let requestMetadata: Metadata | undefined;
  let request: unknown = null;
  const refuse = (what: string) => {
    // The text of grpc-js, which says "streaming" for unary methods too.
    const details = `Received ${what} for server streaming method ${method.path}`;
    below.sendStatus({ code: status.UNIMPLEMENTED, details, metadata: null });
  };
  return {
    onReceiveMetadata(metadata) {
      requestMetadata = metadata;
      below.startRead();
    },
    onReceiveMessage(message: unknown) {
      if (request) {
        refuse("a second request message");
        return;
      }
      request = message;
      below.startRead();
    },
    onReceiveHalfClose() {
      if (!request || requestMetadata === undefined) {
        refuse("no request message");
        return;
      }
      call = writableSurface(below, method.path, requestMetadata, request);
      invoke(below, method, handler, call);
    },
    onCancel() {
      if (call === undefined) return;
      call.cancelled = true;
      call.emit("cancelled", "cancelled");
      if (method.responseStream) call.destroy();
    },
  };
}

/** For methods with a stream of requests: the handler runs at once and reads them. */
function streamingListener(below: Below, method: Method, handler: Handler): ServerCallListener {
  let call: ReturnType<typeof duplexSurface> | undefined;
  return {
    onReceiveMetadata(metadata) {
      call = duplexSurface(below, method.path, metadata);
      invoke(below, method, handler, call);
    },
    onReceiveMessage(message: unknown) {
      call?.push(message);
    },
    onReceiveHalfClose() {
      call?.push(null);
    },
    onCancel() {
      if (call === undefined) return;
      call.cancelled = true;
      call.emit("cancelled", "cancelled");
      call.destroy();
    },
  };
}

/** The status that grpc-js makes of the error of a handler. */
function errorToStatus(error: unknown, trailers?: Metadata): PartialStatus {
  const given: Partial<PartialStatus> & { readonly message?: string } =
    typeof error === "object" && error !== null ? error : {};
  const details = "message" in given ? String(given.message) : "Unknown Error";
  const metadata = trailers ?? given.metadata ?? null;
  if (typeof given.code !== "number" || !Number.isInteger(given.code)) {
    return { code: status.UNKNOWN, details, metadata };
  }
  const own = typeof given.details === "string" ? given.details : details;
  return { code: given.code, details: own, metadata };
}

/** The parts of a handler's call object that all kinds of calls have. */
class Surface {
  readonly #below: Below;
  readonly #path: string;
  #trailers = new Metadata();
  #status: PartialStatus = { code: status.OK, details: "OK" };

  constructor(below: Below, path: string) {
    this.#below = below;
    this.#path = path;
  }

  /** Adds to a stream the members of the server calls of grpc-js. */
  equip<S extends Writable>(
    stream: S,
    request: unknown,
    metadata: Metadata,
  ): S & { cancelled: boolean } {
    const below = this.#below;
    const end = stream.end.bind(stream);
    stream.on("error", (error) => {
      this.#status = errorToStatus(error);
      stream.end();
    });
    return Object.assign(stream, {
      cancelled: false,
      metadata,
      ...(request === undefined ? {} : { request }),
      getPeer: () => below.getPeer(),
      getDeadline: () => below.getDeadline(),
      getHost: () => below.getHost(),
      getPath: () => this.#path,
      getAuthContext: () => below.getAuthContext(),
      getMetricsRecorder: () => below.getMetricsRecorder(),
      sendMetadata: (sent: Metadata) => below.sendMetadata(sent),
      end: (trailers?: Metadata) => {
        if (trailers !== undefined && trailers !== null) this.#trailers = trailers;
        return end();
      },
    });
  }

  finish(): void {
    this.#below.sendStatus({
      ...this.#status,
      metadata: this.#status.metadata ?? this.#trailers,
    });
  }
}

/** The call object of unary and server-streaming handlers, which is the same in grpc-js. */
function writableSurface(below: Below, path: string, metadata: Metadata, request: unknown) {
  const surface = new Surface(below, path);
  const stream = new Writable({
    objectMode: true,
    write: (chunk, _encoding, callback) => below.sendMessage(chunk, callback),
    final: (callback) => {
      callback(null);
      surface.finish();
    },
  });
  return surface.equip(stream, request, metadata);
}

/** The call object of client-streaming and bidirectional handlers. */
function duplexSurface(below: Below, path: string, metadata: Metadata) {
  const surface = new Surface(below, path);
  const stream = new Duplex({
    objectMode: true,
    read: () => below.startRead(),
    write: (chunk, _encoding, callback) => below.sendMessage(chunk, callback),
    final: (callback) => {
      callback(null);
      surface.finish();
    },
  });
  return surface.equip(stream, undefined, metadata);
}
