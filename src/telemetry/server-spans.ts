import { type Metadata, type ServerInterceptor, status as Status } from "@grpc/grpc-js";
import { type Attributes, type Context, type Span, SpanKind, trace } from "@opentelemetry/api";
import type { Clock } from "../core/clock.js";
import type { Wait } from "../core/wait.js";
import type { TraceIds } from "../grpc/context/finished-call.js";
import type { InboundCall } from "../grpc/context/inbound-call.js";
import { ranOutOfTime, toMonotonic } from "../grpc/deadline.js";
import type { Environment, EnvironmentOptions } from "../grpc/environment.js";
import { readPreviousAttempts } from "../grpc/metadata.js";
import { intercepted } from "../grpc/server/forwarding-call.js";
import {
  type ServerSpan,
  type ServerSpanPart,
  serverPipeline,
} from "../grpc/server/pipeline-call.js";
import type { PartialStatus, ServerCall } from "../grpc/types.js";
import {
  authorityAttributes,
  conventional,
  grfc,
  grpcSystem,
  own,
  peerAttributes,
  rpcMethod,
} from "./attributes.js";
import {
  type ResolvedTracingOptions,
  splitTracingOptions,
  type TracingOptions,
} from "./options.js";
import { noteDecisions, noteStatus, SpanTime } from "./spans.js";
import { serverInstrumented, Tracing } from "./tracing.js";
import { makeWaitSpan } from "./wait-span.js";

/**
 * Makes a span of kind SERVER for each inbound call, refused calls included, with the decisions of the policies as
 * events. The span is active in the handler and in all events of the call. `undefined` where tracing is off.
 */
export function serverSpanPart(
  { clock, report }: Environment,
  options: ResolvedTracingOptions,
): ServerSpanPart | undefined {
  if (!options.tracing) return undefined;
  const tracing = new Tracing(options, report);
  const turns = new LoopTurns(clock);
  return {
    get idle() {
      return tracing.idle;
    },
    begin: (...call) => new CallSpan(clock, tracing, turns, ...call),
  };
}

/**
 * The interceptor for the spans of a server, if you order the interceptors without a weir. Put it directly behind
 * `context`, before all policies.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/tracing.md
 */
export function serverSpans(options: TracingOptions & EnvironmentOptions = {}): ServerInterceptor {
  const { environment, telemetry } = splitTracingOptions(options, "serverSpans");
  const spans = serverSpanPart(environment, telemetry);
  const traced = serverPipeline(environment, { spans });
  return (method, call) =>
    spans === undefined || spans.idle ? intercepted(call) : traced(method, call);
}

/**
 * The codes that make the span of a server an error: those that are the fault of the server.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
 */
export const serverErrors: ReadonlySet<Status> = new Set([
  Status.UNKNOWN,
  Status.DEADLINE_EXCEEDED,
  Status.UNIMPLEMENTED,
  Status.INTERNAL,
  Status.UNAVAILABLE,
  Status.DATA_LOSS,
]);

/**
 * Tells the turns of the event loop apart. What a call receives in the turn in which it arrived was in this process from
 * the start, so that the time in between was spent on other work.
 */
class LoopTurns {
  readonly #clock: Clock;
  #number = 0;
  #running = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The number of this turn. Schedules one task for each turn in which it is asked. */
  current(): number {
    if (!this.#running) {
      this.#running = true;
      this.#number += 1;
      this.#clock.afterPoll(() => {
        this.#running = false;
      });
    }
    return this.#number;
  }
}

/** The span of an inbound call. */
class CallSpan implements ServerSpan {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #tracing: Tracing;
  readonly #turns: LoopTurns;
  readonly #time: SpanTime;
  readonly #startedAtMs: number;
  readonly #deadlineMs: number;
  /** The record of the call. Absent where no context interceptor stands nearer the wire. */
  readonly #inbound: InboundCall | undefined;
  readonly #context: Context;
  /** Only if somebody records. */
  readonly #span: Span | undefined;
  #sent: PartialStatus | undefined;
  /** The turn of the event loop in which the call arrived. */
  #turn = 0;

  constructor(
    clock: Clock,
    tracing: Tracing,
    turns: LoopTurns,
    ...[call, path, metadata, inbound]: Parameters<ServerSpanPart["begin"]>
  ) {
    this.#path = path;
    this.#clock = clock;
    this.#tracing = tracing;
    this.#turns = turns;
    this.#time = new SpanTime(clock);
    this.#inbound = inbound;
    this.#startedAtMs = inbound?.startedAtMs ?? clock.now();
    this.#deadlineMs =
      inbound?.deadlineMs ??
      toMonotonic(call.getDeadline(), clock, this.#startedAtMs) ??
      Number.POSITIVE_INFINITY;
    const parent = tracing.extract(metadata);
    const span = this.#startSpan(call, metadata, parent);
    this.#context = span === undefined ? parent : trace.setSpan(parent, span);
    if (tracing.records(span)) {
      this.#span = span;
      this.#turn = turns.current();
      if (inbound !== undefined) inbound.recorded = true;
    }
    // OpenTelemetry's own instrumentation takes the parent of its span from the metadata. With the context in it, that is
    // the span made here; without it, the two spans would be siblings. The metadata belongs to this call alone.
    if (span !== undefined && serverInstrumented()) tracing.injectInto(this.#context, metadata);
  }

  run<A extends unknown[]>(event: (...args: A) => void, ...args: A): void {
    this.#tracing.run(this.#context, () => event(...args));
  }

  get ids(): TraceIds | undefined {
    return this.#tracing.idsIn(this.#context);
  }

  get recording(): boolean {
    return this.#span !== undefined;
  }

  waited(wait: Wait): void {
    makeWaitSpan(this.#tracing, this.#context, this.#time, wait);
  }

  requestComplete(): void {
    // Over several turns, the request may have come late: how much of that was the network is not known here.
    if (this.#span === undefined || this.#turns.current() !== this.#turn) return;
    const startedAtMs = this.#startedAtMs;
    this.waited({ kind: "event_loop", startedAtMs, endedAtMs: this.#clock.now() });
  }

  answered(status: PartialStatus): void {
    this.#sent ??= status;
  }

  ended(nowMs: number): void {
    const span = this.#span;
    if (span === undefined) return;
    const decisions = this.#inbound?.decisions ?? [];
    const refused = decisions.findLast(({ verdict, enforced }) => verdict === "reject" && enforced);
    const replayed = decisions.some(({ verdict, enforced }) => verdict === "replay" && enforced);
    const ended = this.#sent ?? this.#ownCancel(nowMs);
    this.#tracing.guard(() => {
      if (replayed) span.setAttribute(own.callReplayed, true);
      if (refused?.reason !== undefined) span.setAttribute(own.rejectionReason, refused.reason);
      noteDecisions(span, decisions, this.#time);
      noteStatus(span, ended, serverErrors.has(ended.code));
      span.end(this.#time.at(nowMs));
    });
  }

  #startSpan(call: ServerCall, metadata: Metadata, parent: Context): Span | undefined {
    const name = rpcMethod(this.#path);
    const attributes: Attributes = {
      [conventional.systemName]: grpcSystem,
      [conventional.method]: name,
      ...authorityAttributes(call.getHost()),
      ...peerAttributes(call.getPeer()),
    };
    const previous = this.#inbound?.previousAttempts ?? readPreviousAttempts(metadata);
    if (previous > 0) attributes[grfc.previousAttempts] = previous;
    if (this.#inbound !== undefined) attributes[own.callPriority] = this.#inbound.priority;
    if (this.#deadlineMs !== Number.POSITIVE_INFINITY) {
      attributes[own.callDeadlineMs] = Math.max(
        0,
        Math.round(this.#deadlineMs - this.#startedAtMs),
      );
    }
    const startTime = this.#time.at(this.#startedAtMs);
    return this.#tracing.startSpan(name, { kind: SpanKind.SERVER, startTime, attributes }, parent);
  }

  /** The status when none was sent: the caller cancelled, or the deadline passed. The record of the call knows which. */
  #ownCancel(nowMs: number): { readonly code: Status; readonly details: string } {
    const late =
      this.#inbound === undefined
        ? ranOutOfTime(nowMs, this.#deadlineMs)
        : this.#inbound.end === "deadline";
    return late
      ? { code: Status.DEADLINE_EXCEEDED, details: "Deadline exceeded" }
      : { code: Status.CANCELLED, details: "Cancelled" };
  }
}
