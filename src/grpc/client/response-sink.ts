import type { Metadata, StatusObject } from "@grpc/grpc-js";
import type { ClientListener } from "../types.js";

/**
 * Passes the final status of a call to a listener.
 *
 * @param unanswered A single response did not come. Then grpc-js passes a message of null before the status.
 *   Interceptors rely on that: those in the style of gRFC L5 keep the `next` of the message and call it later.
 */
export function emitEnd(
  listener: Partial<ClientListener> | undefined,
  status: StatusObject,
  unanswered: boolean,
): void {
  try {
    if (unanswered) listener?.onReceiveMessage?.(null);
  } finally {
    // If the listener throws over the message, the call still ends.
    listener?.onReceiveStatus?.(status);
  }
}

/**
 * The response as the caller sees it. Messages of a streamed response are shown when the caller has asked for one. An
 * attempt reads its first message before that, because grpc-js applies flow control only from the first read on.
 */
export class ResponseSink {
  readonly #listener: Partial<ClientListener> | undefined;
  readonly #streamed: boolean;
  readonly #onEnd: () => void;
  #readWanted = false;
  #headersShown = false;
  #answered = false;
  /** Messages that came before the caller asked for them. */
  #messages: unknown[] = [];
  /** The OK behind those messages. */
  #status: StatusObject | undefined;
  #ended = false;

  /** @param onEnd Called once, before the final status is shown. */
  constructor(listener: Partial<ClientListener> | undefined, streamed: boolean, onEnd: () => void) {
    this.#listener = listener;
    this.#streamed = streamed;
    this.#onEnd = onEnd;
  }

  /** The caller has asked for a message, and none was there. */
  get readWanted(): boolean {
    return this.#readWanted;
  }

  /** The final status was shown, or will be in the next tick. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Shows response headers, once. A response that is resumed has headers with each of its parts. */
  metadata(metadata: Metadata): void {
    if (this.#ended || this.#headersShown) return;
    this.#headersShown = true;
    this.#listener?.onReceiveMetadata?.(metadata);
  }

  message(message: unknown): void {
    if (this.#ended) return;
    if (this.#streamed && !this.#readWanted) {
      this.#messages.push(message);
      return;
    }
    this.#readWanted = false;
    this.#answered = true;
    this.#listener?.onReceiveMessage?.(message);
  }

  /** The caller asks for a message. False when one is there and will be shown. */
  read(): boolean {
    if (this.#messages.length === 0) {
      this.#readWanted = true;
      return true;
    }
    // The message stays in the list until it is shown, so that an OK that comes in between waits behind it.
    process.nextTick(() => this.#show());
    return false;
  }

  /** Holds an OK back where the caller has not asked for a message before it. False where there is none. */
  holdBehindMessage(status: StatusObject): boolean {
    if (this.#messages.length === 0) return false;
    this.#status = status;
    return true;
  }

  /** Shows the final status now. Nothing is shown after it. */
  end(status: StatusObject): void {
    if (this.#close()) emitEnd(this.#listener, status, this.#unanswered);
  }

  /**
   * Shows the final status in the next tick, for a status that is made while a method of the caller is on the stack.
   */
  endLater(status: StatusObject): void {
    if (this.#ended) return;
    // Before the write callbacks that follow from `#close`: in a write callback, the caller may write again.
    process.nextTick(() => emitEnd(this.#listener, status, this.#unanswered));
    this.#close();
  }

  get #unanswered(): boolean {
    return !this.#streamed && !this.#answered;
  }

  #close(): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    this.#messages = [];
    this.#onEnd();
    return true;
  }

  #show(): void {
    if (this.#messages.length === 0) return;
    try {
      this.#listener?.onReceiveMessage?.(this.#messages.shift());
    } finally {
      if (this.#status !== undefined && this.#messages.length === 0) this.end(this.#status);
    }
  }
}
