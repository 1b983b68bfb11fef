import { connectivityState, status as Status, type StatusObject } from "@grpc/grpc-js";
import { type Attributes, type Span, SpanKind, trace } from "@opentelemetry/api";
import { rounded } from "../core/rounded.js";
import type { Attempt, AttemptPart, AttemptWatch } from "../grpc/client/attempt.js";
import type { Failure } from "../grpc/status/outcome.js";
import {
  conventional,
  grfc,
  grpcSystem,
  own,
  peerAttributes,
  rpcMethod,
  statusName,
} from "./attributes.js";
import { CallTrace, idle } from "./call-span.js";
import { noteStatus } from "./spans.js";
import type { Tracing } from "./tracing.js";

/** The part that makes a span for each attempt that goes on the wire, and puts the trace context into its metadata. */
export function attemptSpanPart(tracing: Tracing): AttemptPart {
  return {
    at: "attempt",
    begin(attempt) {
      if (attempt.call?.trace === idle || tracing.idle) return undefined;
      const callTrace = CallTrace.of(tracing, attempt);
      const { context, recording } = callTrace;
      // If the call is not recorded, its own context is sent, which tells the server not to record either.
      const span = recording ? startSpan(tracing, attempt, callTrace) : undefined;
      const outgoing = span === undefined ? context : trace.setSpan(context, span);
      attempt.metadata = tracing.inject(outgoing, attempt.metadata);
      if (!tracing.records(span)) return undefined;
      return new AttemptSpanWatch(tracing, attempt, span, callTrace);
    },
  };
}

/** Ends the span of an attempt that is recorded. */
class AttemptSpanWatch implements AttemptWatch {
  readonly #tracing: Tracing;
  readonly #attempt: Attempt;
  readonly #span: Span;
  readonly #trace: CallTrace;
  /** Since when the attempt waits for a connection; `undefined` where it has one. */
  #unconnectedSinceMs: number | undefined;
  #stopWatching: (() => void) | undefined;

  constructor(tracing: Tracing, attempt: Attempt, span: Span, callTrace: CallTrace) {
    this.#tracing = tracing;
    this.#attempt = attempt;
    this.#span = span;
    this.#trace = callTrace;
    this.#watchConnection();
  }

  /** A call on a channel without a connection waits in grpc-js until there is one. */
  #watchConnection(): void {
    const { connection } = this.#attempt.record;
    if (connection === undefined || connection.state === connectivityState.READY) return;
    this.#unconnectedSinceMs = this.#attempt.sentAtMs;
    this.#stopWatching = connection.subscribe((state) => {
      if (state === connectivityState.READY) this.#connectionWaitOver();
    });
  }

  #connectionWaitOver(): void {
    const startedAtMs = this.#unconnectedSinceMs;
    if (startedAtMs === undefined) return;
    this.#unconnectedSinceMs = undefined;
    this.#stopWatching?.();
    const endedAtMs = this.#attempt.clock.now();
    this.#trace.waited({ kind: "connection", startedAtMs, endedAtMs });
  }

  ended(final: StatusObject, failure: Failure | undefined): undefined {
    const span = this.#span;
    const { attempt, clock } = this.#attempt;
    const endedAtMs = attempt.endedAtMs ?? clock.now();
    const peer = this.#attempt.getPeer();
    this.#connectionWaitOver();
    // An attempt that another attempt has superseded has not failed. It was cancelled, or runs out.
    const superseded = attempt.superseded === true;
    this.#tracing.guard(() => {
      span.setAttribute(own.attemptOrigin, failure?.origin ?? "remote");
      if (attempt.faults !== undefined) span.setAttribute(own.attemptFaults, [...attempt.faults]);
      if (superseded) span.setAttribute(own.attemptSuperseded, true);
      span.setAttributes(peerAttributes(peer));
      noteStatus(span, final, final.code !== Status.OK && !superseded);
      span.end(this.#trace.time.at(endedAtMs));
    });
  }
}

function startSpan(tracing: Tracing, passage: Attempt, callTrace: CallTrace): Span | undefined {
  const { record, attempt } = passage;
  const method = rpcMethod(record.method);
  const { number, cause, delayMs, after } = attempt;
  const attributes: Attributes = {
    [conventional.systemName]: grpcSystem,
    [conventional.method]: method,
    [grfc.previousAttempts]: number - 1,
    [grfc.transparentRetry]: false,
    [own.attemptNumber]: number,
    [own.attemptCause]: cause,
  };
  if (cause !== "first") attributes[own.attemptDelayMs] = rounded(delayMs);
  if (after !== undefined) attributes[own.attemptAfter] = statusName(after.code);
  // Not when the attempt was decided: it may have waited in a queue since.
  const startTime = callTrace.time.at(passage.sentAtMs);
  const options = { kind: SpanKind.CLIENT, startTime, attributes };
  const name = `Attempt.${method.replace("/", ".")}`;
  return tracing.startSpan(name, options, callTrace.context);
}
