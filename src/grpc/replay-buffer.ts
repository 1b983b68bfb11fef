import type { KeptRequest } from "./kept-request.js";
import type { MessageContext } from "./types.js";
import { completeWrite } from "./write-queue.js";

/** One message of the request, kept until no attempt needs it any more. */
interface Entry {
  readonly message: KeptRequest;
  readonly flags: number | undefined;
  readonly bytes: number;
  /** The caller's write callback, until it has been called. */
  context: MessageContext | undefined;
}

/** How much of a streamed request is kept for another attempt. */
export interface ReplayLimits {
  readonly maxBufferBytes: number;
  readonly maxBufferMessages: number;
}

/**
 * The messages of a request, numbered from 0, for as long as an attempt may have to send them again.
 * Numbers go on when messages at the front are dropped.
 */
export class ReplayBuffer {
  readonly #entries: Entry[] = [];
  readonly #limits: ReplayLimits;
  readonly #streamed: boolean;
  #first = 0;
  #bytes = 0;
  #ended = false;

  /** @param streamed Whether the request is streamed. A single message is in memory as a whole anyway, and not limited. */
  constructor(limits: ReplayLimits, streamed: boolean) {
    this.#limits = limits;
    this.#streamed = streamed;
  }

  /** The caller has half-closed. */
  get requestEnded(): boolean {
    return this.#ended;
  }

  /** The request has outgrown what may be kept of it. */
  get overfull(): boolean {
    const { maxBufferBytes, maxBufferMessages } = this.#limits;
    return (
      this.#streamed && (this.#bytes > maxBufferBytes || this.#entries.length > maxBufferMessages)
    );
  }

  halfClose(): void {
    this.#ended = true;
  }

  /** Number of the next message to come. */
  get end(): number {
    return this.#first + this.#entries.length;
  }

  /** @param counts Whether another attempt may need it; only then its size counts. */
  push(context: MessageContext, message: KeptRequest, counts: boolean): void {
    const bytes = counts && this.#streamed ? sizeOf(message) : 0;
    this.#entries.push({ message, flags: context.flags, bytes, context });
    this.#bytes += bytes;
  }

  at(
    number: number,
  ): { readonly message: KeptRequest; readonly flags: number | undefined } | undefined {
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

  /** The request is another one from now on, of a single message. */
  replace(message: KeptRequest): void {
    this.clear();
    this.#first = 0;
    this.#entries.push({ message, flags: undefined, bytes: 0, context: undefined });
  }

  /** The call is over: frees everything and completes the callbacks that are still out. */
  clear(): void {
    for (const { context } of this.#entries) if (context !== undefined) completeWrite(context);
    this.#first += this.#entries.length;
    this.#entries.length = 0;
    this.#bytes = 0;
  }
}

function sizeOf(message: KeptRequest): number {
  try {
    return message.bytes.length;
  } catch {
    // It fails again where it is sent, and ends the call there.
    return 0;
  }
}
