import type { Metadata, StatusObject } from "@grpc/grpc-js";
import type { ClientListener } from "../types.js";

/**
 * Tells a listener the end of a call.
 *
 * @param unanswered A single response did not come. grpc-js tells that by a message of null before the status, and
 *   interceptors rely on it: those of gRPC proposal L5 keep the way on that they get with it.
 */
export function tellEnd(
  listener: Partial<ClientListener> | undefined,
  status: StatusObject,
  unanswered: boolean,
): void {
  try {
    if (unanswered) listener?.onReceiveMessage?.(null);
  } finally {
    // The end must be told, whatever a listener makes of the message.
    listener?.onReceiveStatus?.(status);
  }
}

/**
 * The response as the caller sees it. Messages of a streamed response are shown when the caller has asked
 * for one: an attempt reads its first before that, because a response nobody reads is not flow-controlled.
 */
export class ResponseSink {
  readonly #listener: Partial<ClientListener> | undefined;
  readonly #streamed: boolean;
  readonly #onEnd: () => void;
  #readWanted = false;
  #headersShown = false;
  #answered = false;
  /** A message that came before the caller asked for it, and the OK behind it. */
  #messages: unknown[] = [];
  #status: StatusObject | undefined;
  #ended = false;

  /** @param onEnd Told once, before the final status is shown. */
  constructor(listener: Partial<ClientListener> | undefined, streamed: boolean, onEnd: () => void) {
    this.#listener = listener;
    this.#streamed = streamed;
    this.#onEnd = onEnd;
  }

  /** The caller waits for a message that no attempt has been asked for yet. */
  get readWanted(): boolean {
    return this.#readWanted;
  }

  /** The final status was shown, or is about to be. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Shows response headers, once: a response that is resumed has headers for each part of it. */
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

  /** The caller asks for a message. False when one is at hand and will be shown. */
  read(): boolean {
    if (this.#messages.length === 0) {
      this.#readWanted = true;
      return true;
    }
    // It stays at hand until it is shown: an OK that comes in between belongs behind it.
    process.nextTick(() => this.#show());
    return false;
  }

  /** An OK stands behind a message that the caller has not asked for: it is shown after that. */
  holdBehindMessage(status: StatusObject): boolean {
    if (this.#messages.length === 0) return false;
    this.#status = status;
    return true;
  }

  /** Shows the final status now. Nothing is shown after it. */
  end(status: StatusObject): void {
    if (this.#close()) tellEnd(this.#listener, status, this.#unanswered);
  }

  /** The same, but later: for a status that is made while the caller is still in a call of ours. */
  endLater(status: StatusObject): void {
    if (this.#ended) return;
    // Before the write callbacks that are still out: who is told of a write goes on writing.
    process.nextTick(() => tellEnd(this.#listener, status, this.#unanswered));
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
