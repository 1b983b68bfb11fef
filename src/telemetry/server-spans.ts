import {
  type Metadata,
  type ServerInterceptor,
  type ServerMethodDefinition,
  status as Status,
} from "@grpc/grpc-js";
import { type Attributes, type Context, type Span, SpanKind, trace } from "@opentelemetry/api";
import type { Clock } from "../core/clock.js";
import { currentInbound, type InboundCall } from "../grpc/context/inbound-call.js";
import { ranOutOfTime, toMonotonic } from "../grpc/deadline.js";
import type { Environment, EnvironmentOptions } from "../grpc/environment.js";
import { readPreviousAttempts } from "../grpc/metadata.js";
import { ForwardingServerCall } from "../grpc/server/forwarding-call.js";
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
  type ResolvedTelemetryOptions,
  splitTelemetryOptions,
  type TelemetryOptions,
} from "./options.js";
import { noteDecisions, noteStatus, SpanTime } from "./spans.js";
import { serverInstrumented, Tracing } from "./tracing.js";

const passThrough: ServerInterceptor = (_method, call) => call as ReturnType<ServerInterceptor>;

/**
 * Makes a span of kind SERVER for each inbound call, refused calls included, with the decisions of the policies as
 * events. The span is active in the handler and in all events of the call. The interceptor belongs directly behind the
 * context interceptor, from which it has the priority and the decisions.
 */
export function serverSpanInterceptor(
  environment: Environment,
  options: ResolvedTelemetryOptions,
): ServerInterceptor {
  if (!options.tracing) return passThrough;
  const { clock, report } = environment;
  const tracing = new Tracing(options, report);
  return (method, call) =>
    tracing.idle ? passThrough(method, call) : new ServerSpanCall(method, call, clock, tracing);
}

/**
 * The interceptor for the spans of a server, if you order the interceptors without a weir. Put it directly behind
 * `context`, before all policies.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function serverSpans(
  options: TelemetryOptions & EnvironmentOptions = {},
): ServerInterceptor {
  const { environment, telemetry } = splitTelemetryOptions(options, "serverSpans");
  return serverSpanInterceptor(environment, telemetry);
}

/**
 * The codes that make the span of a server an error: those that are the fault of the server.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
 */
const serverErrors: ReadonlySet<Status> = new Set([
  Status.UNKNOWN,
  Status.DEADLINE_EXCEEDED,
  Status.UNIMPLEMENTED,
  Status.INTERNAL,
  Status.UNAVAILABLE,
  Status.DATA_LOSS,
]);

/** An inbound call with a span, which is active in all of its events. */
class ServerSpanCall extends ForwardingServerCall {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #tracing: Tracing;
  readonly #time: SpanTime;
  readonly #startedAtMs: number;
  #deadlineMs = Number.POSITIVE_INFINITY;
  /** The record of the call, if a context interceptor stands nearer the wire. */
  #inbound: InboundCall | undefined;
  #context: Context | undefined;
  /** From the start to the end, and only if somebody records. */
  #span: Span | undefined;
  #sent: PartialStatus | undefined;

  constructor(
    method: ServerMethodDefinition<unknown, unknown>,
    below: ServerCall,
    clock: Clock,
    tracing: Tracing,
  ) {
    super(below);
    this.#path = method.path;
    this.#clock = clock;
    this.#tracing = tracing;
    this.#time = new SpanTime(clock);
    this.#startedAtMs = clock.now();
  }

  // Each event is wrapped: grpc-js starts a handler from the metadata, a message or the half-close, by the kind of call.

  protected override begunWith(metadata: Metadata): void {
    const present = currentInbound();
    // In a process that calls itself, the current inbound call may be that of the calling handler.
    const inbound = present?.metadata === metadata ? present : undefined;
    this.#inbound = inbound;
    this.#deadlineMs = inbound === undefined ? this.#readDeadline() : inbound.deadlineMs;
    const parent = this.#tracing.extract(metadata);
    const span = this.#startSpan(metadata, parent);
    const active = span === undefined ? parent : trace.setSpan(parent, span);
    this.#context = active;
    if (this.#tracing.records(span)) this.#span = span;
    // OpenTelemetry's own instrumentation takes the parent of its span from the metadata. With the context in it, that is
    // the span made here; without it, the two spans would be siblings. The metadata belongs to this call alone.
    if (span !== undefined && serverInstrumented()) this.#tracing.injectInto(active, metadata);
    this.#tracing.run(active, () => super.begunWith(metadata));
  }

  override onReceiveMessage(message: unknown): void {
    this.#run(() => super.onReceiveMessage(message));
  }

  override onReceiveHalfClose(): void {
    this.#run(() => super.onReceiveHalfClose());
  }

  override onCancel(): void {
    this.#end();
    this.#run(() => super.onCancel());
  }

  protected override answerWith(status: PartialStatus): void {
    this.#sent ??= status;
    super.answerWith(status);
  }

  #run(task: () => void): void {
    if (this.#context === undefined) task();
    else this.#tracing.run(this.#context, task);
  }

  #readDeadline(): number {
    const deadlineMs = toMonotonic(this.below.getDeadline(), this.#clock, this.#startedAtMs);
    return deadlineMs ?? Number.POSITIVE_INFINITY;
  }

  #startSpan(metadata: Metadata, parent: Context): Span | undefined {
    const name = rpcMethod(this.#path);
    const attributes: Attributes = {
      [conventional.systemName]: grpcSystem,
      [conventional.method]: name,
      ...authorityAttributes(this.below.getHost()),
      ...peerAttributes(this.below.getPeer()),
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

  #end(): void {
    const span = this.#span;
    if (span === undefined) return;
    const nowMs = this.#clock.now();
    const decisions = this.#inbound?.decisions ?? [];
    const refused = decisions.findLast(({ verdict, enforced }) => verdict === "reject" && enforced);
    const ended = this.#sent ?? this.#ownCancel(nowMs);
    this.#tracing.guard(() => {
      if (refused?.reason !== undefined) span.setAttribute(own.rejectionReason, refused.reason);
      noteDecisions(span, decisions, this.#time);
      noteStatus(span, ended, serverErrors.has(ended.code));
      span.end(this.#time.at(nowMs));
    });
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
