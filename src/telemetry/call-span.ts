import { status as Status, type StatusObject } from "@grpc/grpc-js";
import {
  type Attributes,
  type Context,
  context,
  type Span,
  SpanKind,
  trace,
} from "@opentelemetry/api";
import type { Wait, WaitObserver } from "../core/wait.js";
import type { Attempt } from "../grpc/client/attempt.js";
import type { CallPart, CallWatch, PipelineCall } from "../grpc/client/pipeline-call.js";
import type { CallRecord } from "../grpc/context/call-record.js";
import { rejectionOf } from "../grpc/status/rejection.js";
import {
  conventional,
  grpcSystem,
  own,
  peerAttributes,
  rpcMethod,
  serverAttributes,
} from "./attributes.js";
import { noteDecisions, noteStatus, SpanTime } from "./spans.js";
import { instrumentedSpan, type Tracing } from "./tracing.js";
import { makeWaitSpan } from "./wait-span.js";

/** The part that makes a span for each call, over all of its attempts and the time between them. */
export function callSpanPart(tracing: Tracing): CallPart {
  return {
    at: "call",
    begin(call) {
      const { record } = call;
      if (tracing.idle) {
        record.trace = idle;
        return undefined;
      }
      // Where the call starts: an interceptor above may have a span of its own.
      const parent = active();
      const time = new SpanTime(record.clock);
      const { priority } = record;
      const known: Attributes = priority === undefined ? {} : { [own.callPriority]: priority };
      const adopted = instrumentedSpan(parent, record.method);
      if (adopted !== undefined) tracing.guard(() => adopted.setAttributes(known));
      const span = adopted ?? startSpan(tracing, record, time, known, parent);
      const recording = tracing.records(span);
      const spanContext = span === undefined ? parent : trace.setSpan(parent, span);
      record.trace = new CallTrace(tracing, spanContext, recording, time);
      if (!recording) return undefined;
      return new CallSpanWatch(tracing, call, span, time, adopted !== undefined);
    },
  };
}

const active = () => context.active();

/** Ends the span of a call that is recorded. */
class CallSpanWatch implements CallWatch {
  readonly #tracing: Tracing;
  readonly #call: PipelineCall;
  readonly #span: Span;
  readonly #time: SpanTime;
  /** The span is that of another instrumentation, which ends it. */
  readonly #adopted: boolean;
  readonly #targetUnknown: boolean;

  constructor(tracing: Tracing, call: PipelineCall, span: Span, time: SpanTime, adopted: boolean) {
    this.#tracing = tracing;
    this.#call = call;
    this.#span = span;
    this.#time = time;
    this.#adopted = adopted;
    this.#targetUnknown = call.record.target === "";
  }

  ended(final: StatusObject): void {
    const { record } = this.#call;
    const span = this.#span;
    this.#tracing.guard(() => {
      span.setAttributes(factsOf(record, final));
      noteDecisions(span, record.decisions, this.#time);
      if (this.#adopted) return;
      if (this.#targetUnknown) span.setAttributes(serverAttributes(record.target));
      span.setAttributes(peerAttributes(this.#call.getPeer()));
      noteStatus(span, final, final.code !== Status.OK);
      span.end(this.#time.at(this.#call.endedAtMs));
    });
  }
}

function startSpan(
  tracing: Tracing,
  { method, target, startedAtMs }: CallRecord,
  time: SpanTime,
  known: Attributes,
  parent: Context,
): Span | undefined {
  const name = rpcMethod(method);
  const attributes: Attributes = {
    [conventional.systemName]: grpcSystem,
    [conventional.method]: name,
    ...serverAttributes(target),
    ...known,
  };
  const startTime = time.at(startedAtMs);
  return tracing.startSpan(name, { kind: SpanKind.CLIENT, startTime, attributes }, parent);
}

/** The toolkit's own attributes that are known at the end. */
function factsOf(
  { attemptCount, deadlineMs, startedAtMs }: CallRecord,
  final: StatusObject,
): Attributes {
  const facts: Attributes = { [own.callAttempts]: attemptCount };
  if (deadlineMs !== Number.POSITIVE_INFINITY) {
    facts[own.callDeadlineMs] = Math.max(0, Math.round(deadlineMs - startedAtMs));
  }
  const rejection = rejectionOf(final);
  if (rejection !== undefined) {
    facts[own.rejectionReason] = rejection.reason;
    facts[own.rejectionLocal] = rejection.local;
  }
  return facts;
}

/** The trace of a call that began while there was nothing to do: neither its attempts are traced. */
export const idle: WaitObserver = { recording: false, waited() {} };

/** What the attempts of a call need to know about its span. */
export class CallTrace implements WaitObserver {
  readonly #tracing: Tracing;
  /** The context with the call span in it. Below retries and queues, the active context may be that of another call. */
  readonly context: Context;
  /** Whether the call span is recorded, and so its attempts too. */
  readonly recording: boolean;
  readonly time: SpanTime;

  constructor(tracing: Tracing, spanContext: Context, recording: boolean, time: SpanTime) {
    this.#tracing = tracing;
    this.context = spanContext;
    this.recording = recording;
    this.time = time;
  }

  /**
   * The trace of a call. If no part for call spans stands above, its context is the one that was active for the caller.
   */
  static of(tracing: Tracing, { call, record }: Pick<Attempt, "call" | "record">): CallTrace {
    if (call?.trace instanceof CallTrace) return call.trace;
    return new CallTrace(tracing, record.restore(active), true, new SpanTime(record.clock));
  }

  waited(wait: Wait): void {
    makeWaitSpan(this.#tracing, this.context, this.time, wait);
  }
}
