import { type Metadata, type NextCall, status as Status, type StatusObject } from "@grpc/grpc-js";
import { type Attributes, type Span, SpanKind, trace } from "@opentelemetry/api";
import type { StatusOrigin } from "../core/status.js";
import { ForwardingCall } from "../grpc/client/forwarding-call.js";
import {
  type AttemptRecord,
  attemptOf,
  type CallRecord,
  endAttempt,
} from "../grpc/context/call-record.js";
import { echoes, supersededText } from "../grpc/status/origin.js";
import {
  conventional,
  grfc,
  grpcSystem,
  own,
  peerAttributes,
  rpcMethod,
  statusName,
} from "./attributes.js";
import type { CallTrace, TracedOptions } from "./call-span.js";
import { noteStatus } from "./spans.js";
import type { Tracing } from "./tracing.js";

/** An attempt that goes on the wire, with a span, and with the trace context in its metadata. */
export class AttemptSpanCall extends ForwardingCall<TracedOptions> {
  readonly #record: CallRecord;
  readonly #trace: CallTrace;
  readonly #tracing: Tracing;
  /** From the start to the end, and only if somebody records. */
  #span: Span | undefined;
  #attempt: AttemptRecord | undefined;
  #final: StatusObject | undefined;
  #sawHeaders = false;
  #ownCancel: string | undefined;

  constructor(
    options: TracedOptions,
    nextCall: NextCall,
    record: CallRecord,
    callTrace: CallTrace,
    tracing: Tracing,
  ) {
    super(options, nextCall);
    this.#record = record;
    this.#trace = callTrace;
    this.#tracing = tracing;
  }

  protected override begin(metadata: Metadata): void {
    const { context, recording } = this.#trace;
    // If the call is not recorded, its own context is sent, which tells the server not to record either.
    const span = recording ? this.#startSpan() : undefined;
    if (this.#tracing.records(span)) this.#span = span;
    const outgoing = span === undefined ? context : trace.setSpan(context, span);
    this.forward(this.#tracing.inject(outgoing, metadata));
  }

  override cancelWithStatus(code: Status, details: string): void {
    this.#ownCancel ??= details;
    super.cancelWithStatus(code, details);
  }

  override onReceiveMetadata(metadata: Metadata): void {
    this.#sawHeaders = true;
    super.onReceiveMetadata(metadata);
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
    const span = this.#span;
    const attempt = this.#attempt;
    const final = this.#final;
    if (span === undefined || attempt === undefined || final === undefined) return;
    const nowMs = this.#record.clock.now();
    const peer = this.getPeer();
    const origin = this.#origin(attempt, final, nowMs);
    // An attempt that another attempt has superseded has not failed.
    const superseded = final.details === supersededText;
    this.#tracing.guard(() => {
      span.setAttribute(own.attemptOrigin, origin);
      if (attempt.faults !== undefined) span.setAttribute(own.attemptFaults, [...attempt.faults]);
      if (superseded) span.setAttribute(own.attemptSuperseded, true);
      span.setAttributes(peerAttributes(peer));
      noteStatus(span, final, final.code !== Status.OK && !superseded);
      span.end(this.#trace.time.at(nowMs));
    });
  }

  /** Where the status came from: read here, nearest to the wire, unless a policy above has made the status. */
  #origin(attempt: AttemptRecord, final: StatusObject, nowMs: number): StatusOrigin {
    const { failure } = attempt;
    const noted = failure?.status;
    if (failure !== undefined && noted?.code === final.code && noted.details === final.details) {
      return failure.origin;
    }
    const { target, unknownTexts: unknown, resets } = this.#record;
    const evidence = {
      sawHeaders: this.#sawHeaders,
      peer: this.getPeer(),
      target,
      ownCancel: echoes(final, this.#ownCancel),
      unknown,
      resets,
    };
    return endAttempt(attempt, final, evidence, nowMs)?.origin ?? "remote";
  }

  #startSpan(): Span | undefined {
    const record = this.#record;
    const attempt = attemptOf(this.options, record);
    this.#attempt = attempt;
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
    if (cause !== "first") attributes[own.attemptDelayMs] = delayMs;
    if (after !== undefined) attributes[own.attemptAfter] = statusName(after.code);
    // Now, and not when the attempt was decided: it may have waited in a queue since.
    const startTime = this.#trace.time.at(record.clock.now());
    const options = { kind: SpanKind.CLIENT, startTime, attributes };
    const name = `Attempt.${method.replace("/", ".")}`;
    return this.#tracing.startSpan(name, options, this.#trace.context);
  }
}
