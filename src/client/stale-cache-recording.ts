import type { StatusObject } from "@grpc/grpc-js";
import { storedBytes } from "../core/answer-cache.js";
import { readDegradations } from "../grpc/degraded.js";
import { responseBytes } from "./stale-cache-bytes.js";

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
