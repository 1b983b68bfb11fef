import type { InterceptorOptions } from "@grpc/grpc-js";

type Definition = InterceptorOptions["method_definition"];

/** What messages were read from, as long as somebody has them. */
const bytesOf = new WeakMap<object, Uint8Array>();
const captured = new WeakSet<Definition["responseDeserialize"]>();

/**
 * From now on the bytes of this call's responses can be asked for. A client is given no serializer of responses, so
 * their bytes are noted on their way in. grpc-js makes a definition for each call and reads from it message by
 * message, so nothing is changed but this call.
 */
export function captureResponses(definition: Definition): void {
  const { responseDeserialize } = definition;
  if (captured.has(responseDeserialize)) return;
  const capturing: Definition["responseDeserialize"] = (bytes) => {
    const message: unknown = responseDeserialize(bytes);
    if (typeof message === "object" && message !== null) bytesOf.set(message, bytes);
    return message;
  };
  captured.add(capturing);
  // A definition that somebody has frozen stays as it is; then no bytes are known.
  if (!Object.isFrozen(definition)) definition.responseDeserialize = capturing;
}

/** The bytes of a response; `undefined` where it is no object, or where somebody has put another in its place. */
export function responseBytes(message: unknown): Uint8Array | undefined {
  return typeof message === "object" && message !== null ? bytesOf.get(message) : undefined;
}

/** A message of its own from bytes that nobody else has: codecs may hand out parts of what they read from. */
export function freshMessage(definition: Definition, bytes: Uint8Array): unknown {
  const own = Buffer.alloc(bytes.length);
  own.set(bytes);
  return definition.responseDeserialize(own);
}
