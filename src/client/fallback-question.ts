import type { InterceptorOptions, Metadata } from "@grpc/grpc-js";
import type { FallbackReply } from "../core/fallback.js";
import type { CallRecord } from "../grpc/call-record.js";
import { CallDeadline, toEpoch } from "../grpc/deadline.js";
import { copyMetadata } from "../grpc/kept-metadata.js";
import type { MessageCopy } from "../grpc/message-copy.js";
import { askForAnswer, type FallbackAnswer } from "./fallback-answer.js";
import type {
  AskedCall,
  FallbackContext,
  FallbackFailure,
  FallbackSource,
} from "./fallback-provider.js";

/** A failed call, as providers are asked about it one after another. */
export interface FallbackQuestion {
  readonly record: CallRecord;
  readonly metadata: Metadata;
  /** The request as it was when the call was made. Absent where no function of the user's may ask for it. */
  readonly request: MessageCopy | undefined;
  readonly definition: InterceptorOptions["method_definition"];
  readonly key: string | undefined;
  readonly failure: FallbackFailure;
}

/** Asks one provider, in the caller's context. @returns What calls it off. */
export function askProvider(
  source: FallbackSource,
  question: FallbackQuestion,
  dueMs: number,
  told: (reply: FallbackReply<FallbackAnswer>) => void,
): () => void {
  const { record, definition, key } = question;
  const request = source.harmless ? undefined : question.request?.make();
  let abort: AbortController | undefined;
  let gone = false;
  const context = (): FallbackContext => {
    abort ??= new AbortController();
    if (gone) abort.abort();
    return {
      method: record.method,
      kind: record.kind,
      failure: question.failure,
      metadata: copyMetadata(question.metadata),
      signal: abort.signal,
      deadline: toEpoch(dueMs, record.clock),
    };
  };
  const watched = () =>
    dueMs === Number.POSITIVE_INFINITY
      ? undefined
      : new CallDeadline(dueMs, dueMs - record.clock.now(), record.clock, false);
  const call: AskedCall = { kind: record.kind, request, definition, key, context, watched };
  const stop = record.restore(() =>
    askForAnswer(
      record.kind,
      () => source.ask(call),
      (answer) => told(answer === undefined ? { kind: "none" } : { kind: "answer", answer }),
      (error) => told({ kind: "error", error }),
    ),
  );
  return () => {
    gone = true;
    abort?.abort();
    stop();
  };
}
