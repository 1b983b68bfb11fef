import type { InterceptorOptions, StatusObject } from "@grpc/grpc-js";
import { readDegradations } from "../../../grpc/status/degraded.js";
import { storedBytes } from "./answer-cache.js";

/** The cache that a recording is for. */
interface AnswerKeeper {
  keep(key: string, messages: readonly Uint8Array[]): void;
  /** The answer is not stored, because it is too long or its bytes are not known. */
  notKept(bytesUnknown: boolean): void;
}

/** Collects the messages of an answer, to store it when it has ended with OK. */
export class AnswerRecording {
  readonly #key: string;
  readonly #maxBytes: number;
  readonly #keeper: AnswerKeeper;
  /** `undefined` if the answer will not be stored. */
  #messages: Uint8Array[] | undefined = [];

  constructor(key: string, maxBytes: number, keeper: AnswerKeeper) {
    this.#key = key;
    this.#maxBytes = maxBytes;
    this.#keeper = keeper;
  }

  message(message: unknown): void {
    if (this.#messages === undefined) return;
    const bytes = responseBytes(message);
    // A copy: the caller gets the message, which may share its bytes.
    if (bytes !== undefined) this.#messages.push(Buffer.from(bytes));
    const fits = storedBytes(this.#messages) <= this.#maxBytes;
    if (bytes !== undefined && fits) return;
    this.#messages = undefined;
    this.#keeper.notKept(bytes === undefined);
  }

  /** The answer has ended with OK. A degraded answer is not stored: later it would pass for a good one. */
  ended({ metadata }: StatusObject): void {
    const messages = this.#messages;
    if (messages === undefined || readDegradations(metadata).length > 0) return;
    this.#keeper.keep(this.#key, messages);
  }
}

type Definition = InterceptorOptions["method_definition"];

/** The bytes of responses, for as long as the messages are in use. */
const bytesOf = new WeakMap<object, Uint8Array>();
const captured = new WeakSet<Definition["responseDeserialize"]>();

/**
 * Makes the bytes of a call's responses available. A client has no serializer for responses, so their bytes are kept when
 * they are read. grpc-js makes a definition for each call and reads it for each message, so that only this call
 * changes.
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
  // A frozen definition is left as it is, and the bytes are not known.
  if (!Object.isFrozen(definition)) definition.responseDeserialize = capturing;
}

/** The bytes of a response; `undefined` if it is no object, or if an interceptor has replaced it. */
export function responseBytes(message: unknown): Uint8Array | undefined {
  return typeof message === "object" && message !== null ? bytesOf.get(message) : undefined;
}

/** Decodes a message from a copy of the bytes: codecs may hand out parts of what they read from. */
export function freshMessage(definition: Definition, bytes: Uint8Array): unknown {
  const own = Buffer.alloc(bytes.length);
  own.set(bytes);
  return definition.responseDeserialize(own);
}
