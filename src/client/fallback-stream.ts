import { whenKnown } from "../core/user-code.js";
import { type AnyIterator, faultOf } from "./fallback-answer.js";

/** Told what a streamed answer gives. */
export interface FallbackStreamReader {
  message(message: unknown): void;
  /** There are no more messages. */
  done(): void;
  /** It broke off. */
  broken(error: unknown): void;
}

/** A streamed answer of a provider, shown as fast as the caller reads: one message for each read. */
export class FallbackStream {
  readonly #iterator: AnyIterator;
  readonly #reader: FallbackStreamReader;
  #first: IteratorResult<unknown, unknown> | undefined;
  #reading = false;
  #over = false;

  constructor(
    iterator: AnyIterator,
    first: IteratorResult<unknown, unknown>,
    reader: FallbackStreamReader,
  ) {
    this.#iterator = iterator;
    this.#reader = reader;
    if (first.done === true) this.#take(first);
    else this.#first = first;
  }

  /** The caller wants a message. */
  read(): void {
    if (this.#reading || this.#over) return;
    this.#reading = true;
    const first = this.#first;
    this.#first = undefined;
    // Later, because the caller is in a call of ours; an iterator that is not asynchronous would recurse.
    if (first !== undefined) process.nextTick(() => this.#take(first));
    else {
      whenKnown(
        async () => this.#iterator.next(),
        (result) => this.#take(result),
        (error) => this.#break(error),
      );
    }
  }

  /** The call has ended. Who asked for the answer closes the iterator. */
  stop(): void {
    this.#over = true;
  }

  #take(result: IteratorResult<unknown, unknown>): void {
    if (this.#over) return;
    this.#reading = false;
    if (result.done === true) {
      this.#over = true;
      this.#reader.done();
      return;
    }
    const fault = faultOf(result);
    if (fault === undefined) this.#reader.message(result.value);
    else this.#break(fault);
  }

  #break(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#reader.broken(error);
  }
}
