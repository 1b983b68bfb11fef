import type { Known } from "../core/answer-cache.js";
import { whenKnown } from "../core/user-code.js";
import type { CallKind } from "../grpc/types.js";
import type { ProvidedAnswer } from "./fallback-provider.js";

/** An answer that can be given. A streamed one has begun: its first message is there, or its end. */
export type FallbackAnswer = { readonly ageMs: number | undefined } & (
  | { readonly kind: "one"; readonly message: unknown }
  | {
      readonly kind: "stream";
      readonly iterator: AnyIterator;
      readonly first: IteratorResult<unknown, unknown>;
    }
);

export type AnyIterator = AsyncIterator<unknown> | Iterator<unknown>;

/**
 * Asks for an answer, and looks at what it is. Tells once: the answer, nothing, or what went wrong. Now or
 * later; what comes later comes in a turn of its own, so that what a listener throws is not taken for the provider's.
 *
 * @returns What gives up: a stream that has begun, or begins later, is closed.
 */
export function askForAnswer(
  kind: CallKind,
  ask: () => Known<ProvidedAnswer | undefined>,
  told: (answer: FallbackAnswer | undefined) => void,
  failed: (error: unknown) => void,
): () => void {
  let gone = false;
  let begun: AnyIterator | undefined;
  const begin = (response: unknown, ageMs: number | undefined) =>
    whenKnown(
      () => {
        const iterator = iteratorOf(response);
        begun = iterator;
        if (gone) closeIterator(iterator);
        return iterator.next();
      },
      (first) => {
        if (begun === undefined) return;
        const fault = faultOf(first);
        if (fault === undefined) told({ kind: "stream", iterator: begun, first, ageMs });
        else {
          closeIterator(begun);
          failed(fault);
        }
      },
      failed,
    );
  whenKnown(
    ask,
    (provided) => {
      if (provided === undefined) told(undefined);
      else if (kind === "unary") {
        const { response, ageMs } = provided;
        if (isMessage(response)) told({ kind: "one", message: response, ageMs });
        else failed(new TypeError("the answer to a call with a single response is no message"));
      } else begin(provided.response, provided.ageMs);
    },
    failed,
  );
  return () => {
    gone = true;
    if (begun !== undefined) closeIterator(begun);
  };
}

/** Lets a generator run its `finally`. Whatever comes of that, nobody waits for it. */
function closeIterator(iterator: AnyIterator): void {
  whenKnown(
    () => iterator.return?.(),
    () => {},
    () => {},
  );
}

/** Codecs of protobuf give objects, others anything; a stream is no message. */
function isMessage(response: unknown): boolean {
  if (response === null) return false;
  return typeof response !== "object" || !(Symbol.asyncIterator in response);
}

function iteratorOf(response: unknown): AnyIterator {
  if (typeof response === "object" && response !== null) {
    if (Symbol.asyncIterator in response) {
      return (response as AsyncIterable<unknown>)[Symbol.asyncIterator]();
    }
    if (Symbol.iterator in response) return (response as Iterable<unknown>)[Symbol.iterator]();
  }
  throw new TypeError("the answer to a call with a streamed response cannot be iterated over");
}

/**
 * What is wrong with what an iterator gave. No message, shown as one, would end the caller's stream in its midst: the
 * call would never be told how it ended.
 */
export function faultOf(result: IteratorResult<unknown, unknown>): TypeError | undefined {
  if (typeof result !== "object" || result === null) {
    return new TypeError("an iterator of a streamed answer gave no result");
  }
  if (result.done === true || (result.value !== null && result.value !== undefined))
    return undefined;
  return new TypeError(`a message of a streamed answer is ${String(result.value)}`);
}
