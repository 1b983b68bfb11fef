import type { MessageContext } from "./types.js";
import { completeWrite } from "./write-queue.js";

/** One message of the request, kept until no attempt needs it any more. */
interface Entry {
  readonly message: unknown;
  readonly flags: number | undefined;
  readonly bytes: number;
  /** The caller's write callback, until it has been called. */
  context: MessageContext | undefined;
}

/**
 * The messages of a request, numbered from 0, for as long as an attempt may have to send them again.
 * Numbers go on when messages at the front are dropped.
 */
export class ReplayBuffer {
  readonly #entries: Entry[] = [];
  #first = 0;
  #bytes = 0;

  /** Number of the next message to come. */
  get end(): number {
    return this.#first + this.#entries.length;
  }

  get messages(): number {
    return this.#entries.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  push(context: MessageContext, message: unknown, bytes: number): void {
    this.#entries.push({ message, flags: context.flags, bytes, context });
    this.#bytes += bytes;
  }

  at(
    number: number,
  ): { readonly message: unknown; readonly flags: number | undefined } | undefined {
    return this.#entries[number - this.#first];
  }

  /** An attempt has written the message: the caller may go on. Only the first time counts. */
  written(number: number): void {
    const entry = this.#entries[number - this.#first];
    const context = entry?.context;
    if (entry === undefined || context === undefined) return;
    entry.context = undefined;
    context.callback?.();
  }

  /** No attempt will need messages before this one. */
  dropBefore(number: number): void {
    while (this.#first < number && this.#entries.length > 0) {
      const entry = this.#entries.shift();
      this.#first += 1;
      this.#bytes -= entry?.bytes ?? 0;
    }
  }

  /** The call is over: frees everything and completes the callbacks that are still out. */
  clear(): void {
    for (const { context } of this.#entries) if (context !== undefined) completeWrite(context);
    this.#first += this.#entries.length;
    this.#entries.length = 0;
    this.#bytes = 0;
  }
}
