import { type Metadata, type NextCall, status as Status, type StatusObject } from "@grpc/grpc-js";
import {
  type Attributes,
  type Context,
  context,
  type Span,
  SpanKind,
  trace,
} from "@opentelemetry/api";
import { ForwardingCall } from "../grpc/client/forwarding-call.js";
import type { CallRecord, OptionsWithOwn } from "../grpc/context/call-record.js";
import { readPriority } from "../grpc/metadata.js";
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

/** A call with a span over all of its attempts and the time between them. */
export class CallSpanCall extends ForwardingCall<OptionsWithOwn> {
  readonly #record: CallRecord;
  readonly #tracing: Tracing;
  readonly #parent: Context;
  /** From the start to the end, and only if somebody records. */
  #recorded:
    | { readonly span: Span; readonly time: SpanTime; readonly adopted: boolean }
    | undefined;
  #final: StatusObject | undefined;

  /** @param parent What was active when the call was made. */
  constructor(
    options: OptionsWithOwn,
    nextCall: NextCall,
    record: CallRecord,
    tracing: Tracing,
    parent: Context,
  ) {
    super(options, nextCall);
    this.#record = record;
    this.#tracing = tracing;
    this.#parent = parent;
  }

  // The span starts here and not with the object: a call that is made and never started does not end.
  protected override begin(metadata: Metadata): void {
    const record = this.#record;
    const time = new SpanTime(record.clock);
    const marked = readPriority(metadata);
    const priority = marked === "absent" || marked === "invalid" ? record.priority : marked;
    const known: Attributes = priority === undefined ? {} : { [own.callPriority]: priority };
    const adopted = instrumentedSpan(this.#parent, record.method);
    if (adopted !== undefined) this.#tracing.guard(() => adopted.setAttributes(known));
    const span = adopted ?? this.#startSpan(time, known);
    const recording = this.#tracing.records(span);
    if (recording) {
      this.#recorded = { span, time, adopted: adopted !== undefined };
    }
    const targetUnknown = record.target === "";
    const context = span === undefined ? this.#parent : trace.setSpan(this.#parent, span);
    this.forward(metadata, withTrace(this.options, { context, recording, time }));
    if (targetUnknown) this.#learnTarget();
  }

  protected override endedWith(received: StatusObject): void {
    this.#final ??= received;
    super.endedWith(received);
  }

  protected override finish(final: StatusObject): void {
    this.#final ??= final;
    super.finish(final);
  }

  protected override released(): void {
    const recorded = this.#recorded;
    const final = this.#final;
    if (recorded === undefined || final === undefined) return;
    const { span, time, adopted } = recorded;
    const record = this.#record;
    this.#tracing.guard(() => {
      span.setAttributes(this.#facts(final));
      noteDecisions(span, record.decisions, time);
      if (adopted) return;
      span.setAttributes(peerAttributes(this.getPeer()));
      noteStatus(span, final, final.code !== Status.OK);
      span.end(time.at(record.clock.now()));
    });
  }

  #startSpan(time: SpanTime, known: Attributes): Span | undefined {
    const { method, target, startedAtMs } = this.#record;
    const name = rpcMethod(method);
    const attributes: Attributes = {
      [conventional.systemName]: grpcSystem,
      [conventional.method]: name,
      ...serverAttributes(target),
      ...known,
    };
    const startTime = time.at(startedAtMs);
    const options = { kind: SpanKind.CLIENT, startTime, attributes };
    return this.#tracing.startSpan(name, options, this.#parent);
  }

  /** The toolkit's own attributes that are known at the end. */
  #facts(final: StatusObject): Attributes {
    const { attemptCount, deadlineMs, startedAtMs } = this.#record;
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

  /** Takes the target from the call below, which gives it as its peer until there is a connection. */
  #learnTarget(): void {
    const recorded = this.#recorded;
    const peer = this.getPeer();
    if (recorded === undefined || recorded.adopted || peer === "unknown") return;
    this.#tracing.guard(() => recorded.span.setAttributes(serverAttributes(peer)));
  }
}

/** What the attempts of a call need to know about its span. */
export interface CallTrace {
  /** The context with the call span in it. */
  readonly context: Context;
  /** Whether the call span is recorded, and so its attempts too. */
  readonly recording: boolean;
  readonly time: SpanTime;
}

/** Key of the trace in `CallOptions`. Below retries and queues, the active context may be that of another call. */
const traceKey: unique symbol = Symbol("grpc-weir.trace");

export type TracedOptions = OptionsWithOwn & { [traceKey]?: CallTrace | undefined };

/** A copy of the options with the trace in it. */
function withTrace(options: OptionsWithOwn, callTrace: CallTrace): TracedOptions {
  // V8 takes a microsecond to add a key to a copied object, and a tenth of that if the key is there before the copying.
  const copy: TracedOptions = { [traceKey]: callTrace, ...options };
  copy[traceKey] = callTrace;
  return copy;
}

/**
 * The trace of the call. If no interceptor for call spans stands above, its context is the one that was active for the
 * caller.
 */
export function traceOf(options: TracedOptions, record: CallRecord): CallTrace {
  return (
    options[traceKey] ?? {
      context: record.restore(() => context.active()),
      recording: true,
      time: new SpanTime(record.clock),
    }
  );
}
