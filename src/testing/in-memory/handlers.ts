import {
  type Metadata,
  type ServerInterceptingCallInterface,
  type ServerMethodDefinition,
  status,
} from "@grpc/grpc-js";
import type { ServerCallListener } from "../../grpc/types.js";
import { duplexSurface, errorToStatus, writableSurface } from "./surfaces.js";

/** A handler of any kind; `respond` is undefined for those that answer with a stream. */
export type Handler = (call: unknown, respond: Respond | undefined) => void;
export type Respond = (error: unknown, value?: unknown, trailers?: Metadata) => void;
type Method = Pick<
  ServerMethodDefinition<unknown, unknown>,
  "path" | "requestStream" | "responseStream"
>;
type Below = ServerInterceptingCallInterface;

/** Starts a call and runs its handler as grpc-js does, above all interceptors. */
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

/** For one request: the handler runs when the client has half-closed. */
function singleListener(below: Below, method: Method, handler: Handler): ServerCallListener {
  let call: ReturnType<typeof writableSurface> | undefined;
  let requestMetadata: Metadata | undefined;
  let request: unknown = null;
  const refuse = (what: string) => {
    // The word "streaming" is grpc-js's own, for unary methods too.
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

/** For many requests: the handler runs at once and pulls them. */
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
