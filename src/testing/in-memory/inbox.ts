/** What the reader of a stream is told. */
export interface InboxReader {
  data(message: Buffer): void;
  /** No more data will come; told once everything before it was read. */
  end(): void;
}

/**
 * The readable side of a stream, with the manners of a Node stream: while it flows, what arrives is
 * handed on at once; paused, it waits here and its bytes count against the sender's window.
 */
export class Inbox {
  readonly #reader: InboxReader;
  readonly #consumed: (bytes: number) => void;
  readonly #waiting: Buffer[] = [];
  #flowing: boolean;
  #resuming = false;
  #ended = false;
  #endTold = false;

  constructor(reader: InboxReader, flowing: boolean, consumed: (bytes: number) => void) {
    this.#reader = reader;
    this.#flowing = flowing;
    this.#consumed = consumed;
  }

  accept(message: Buffer): void {
    this.#waiting.push(message);
    if (!this.#resuming) this.#drain();
  }

  acceptEnd(): void {
    this.#ended = true;
    if (!this.#resuming) this.#drain();
  }

  pause(): void {
    this.#flowing = false;
  }

  resume(): void {
    if (this.#flowing) return;
    this.#flowing = true;
    if (this.#resuming) return;
    this.#resuming = true;
    process.nextTick(() => {
      this.#resuming = false;
      this.#drain();
    });
  }

  #drain(): void {
    while (this.#flowing) {
      const message = this.#waiting.shift();
      if (message === undefined) break;
      this.#consumed(message.length);
      this.#reader.data(message);
    }
    // The end needs no flow: Node tells it as soon as nothing is left to read.
    if (this.#ended && this.#waiting.length === 0 && !this.#endTold) {
      this.#endTold = true;
      process.nextTick(() => this.#reader.end());
    }
  }
}
