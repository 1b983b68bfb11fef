import type { InterceptorOptions, StatusObject } from "@grpc/grpc-js";
import { readDegradations } from "../../../grpc/status/degraded.js";
import { storedBytes } from "./answer-cache.js";

/** Who takes an answer that has ended well. */
interface AnswerKeeper {
  keep(key: string, messages: readonly Uint8Array[]): void;
  /** It is not kept: it is too long, or its bytes are not known. */
  notKept(bytesUnknown: boolean): void;
}

/** An answer on its way, noted for the store. */
export class AnswerRecording {
  readonly #key: string;
  readonly #maxBytes: number;
  readonly #keeper: AnswerKeeper;
  /** `undefined` once it is clear that it will not be stored. */
  #messages: Uint8Array[] | undefined = [];

  constructor(key: string, maxBytes: number, keeper: AnswerKeeper) {
    this.#key = key;
    this.#maxBytes = maxBytes;
    this.#keeper = keeper;
  }

  message(message: unknown): void {
    if (this.#messages === undefined) return;
    const bytes = responseBytes(message);
    // The message is about to be the caller's, and may hold parts of what it was read from.
    if (bytes !== undefined) this.#messages.push(Buffer.from(bytes));
    const fits = storedBytes(this.#messages) <= this.#maxBytes;
    if (bytes !== undefined && fits) return;
    this.#messages = undefined;
    this.#keeper.notKept(bytes === undefined);
  }

  /** It ended well. An answer that had to make do itself is not kept: given later, it would pass for a good one. */
  ended({ metadata }: StatusObject): void {
    const messages = this.#messages;
    if (messages === undefined || readDegradations(metadata).length > 0) return;
    this.#keeper.keep(this.#key, messages);
  }
}

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
