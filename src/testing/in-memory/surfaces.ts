import { Duplex, Writable } from "node:stream";
import { Metadata, type ServerInterceptingCallInterface, status } from "@grpc/grpc-js";
import type { PartialStatus } from "../../grpc/types.js";

type Below = ServerInterceptingCallInterface;

/** The status that grpc-js makes of what a handler gives as its error. */
export function errorToStatus(error: unknown, trailers?: Metadata): PartialStatus {
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

/** What a handler may ask and tell of its call, whatever its kind. */
class Surface {
  readonly #below: Below;
  readonly #path: string;
  #trailers = new Metadata();
  #status: PartialStatus = { code: status.OK, details: "OK" };

  constructor(below: Below, path: string) {
    this.#below = below;
    this.#path = path;
  }

  /** Adds to a stream what grpc-js's own classes of server calls have. */
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

/** The call object of unary and server-streaming handlers: grpc-js gives both the same. */
export function writableSurface(below: Below, path: string, metadata: Metadata, request: unknown) {
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

/** The call object of client-streaming and bidi handlers. */
export function duplexSurface(below: Below, path: string, metadata: Metadata) {
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
