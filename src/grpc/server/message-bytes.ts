import type { Buffer } from "node:buffer";
import type { ServerCall } from "../types.js";
import type { ServerMethod } from "./record.js";

// grpc-js gives interceptors messages as objects, and their bytes to nobody: its own call deserializes the request before any
// interceptor sees it, and serializes the response behind all of them. Both are done by the `handler` of that call, which is
// replaced here for this one call. It is a private field; `test/deep/grpc-js` finds out when grpc-js changes it.

/** The bytes of the messages of one call, with a single request and a single response. */
export interface MessageBytes {
  /** Those of the request; `undefined` until it has arrived. */
  readonly request: Uint8Array | undefined;
}

/** A response that is serialized already. Only calls that {@link readBytes} has changed can send it. */
export class EncodedMessage {
  readonly bytes: Buffer;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }
}

/** How many calls of interceptors may stand between the pipeline and the call of grpc-js. */
const maxDepth = 32;
/** The fields in which calls of interceptors have the call nearer the wire: those of grpc-js, and those of the toolkit. */
const belowFields = ["nextCall", "below"] as const;

/**
 * Lets the call of grpc-js below keep the bytes of its request, and send responses that are {@link EncodedMessage}s. Call it
 * before a message can arrive: when the call of the interceptor is made.
 *
 * @returns `undefined` when the call of grpc-js is not found: an interceptor nearer the wire hides it.
 */
export function readBytes(call: ServerCall, method: ServerMethod): MessageBytes | undefined {
  let below: unknown = call;
  for (let depth = 0; depth < maxDepth && isObject(below); depth += 1) {
    const handler: unknown = Reflect.get(below, "handler");
    if (isObject(handler) && Reflect.get(handler, "deserialize") === method.requestDeserialize) {
      const { bytes, replaced } = reading(handler, method);
      return Reflect.set(below, "handler", replaced) ? bytes : undefined;
    }
    const from: object = below;
    below = belowFields.map((field): unknown => Reflect.get(from, field)).find(isObject);
  }
  return undefined;
}

function reading(handler: object, method: ServerMethod) {
  const bytes: { request: Uint8Array | undefined } = { request: undefined };
  const replaced = {
    ...handler,
    deserialize(given: Parameters<ServerMethod["requestDeserialize"]>[0]): unknown {
      bytes.request ??= given;
      return method.requestDeserialize(given);
    },
    serialize(message: unknown): Buffer {
      return message instanceof EncodedMessage ? message.bytes : method.responseSerialize(message);
    },
  };
  return { bytes, replaced };
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
