import { type Metadata, Server } from "@grpc/grpc-js";
import {
  type Context,
  context,
  isValidSpanId,
  isValidTraceId,
  propagation,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  type SpanOptions,
  type TextMapGetter,
  type TextMapPropagator,
  type TextMapSetter,
  type Tracer,
  type TracerProvider,
  trace,
} from "@opentelemetry/api";
import { shown } from "../core/options.js";
import { ask, callSafely, type ReportError, yesOrNo } from "../core/user-code.js";
import { copyMetadata } from "../grpc/client/kept-metadata.js";
import type { TraceIds } from "../grpc/context/finished-call.js";
import { rpcMethod } from "./attributes.js";
import type { ResolvedTracingOptions } from "./options.js";

/** The instrumentation scope of all spans and metrics of the toolkit. */
export const tracerName = "grpc-weir";
/** Its version: the package's. */
export const tracerVersion = "0.1.0";

/**
 * The OpenTelemetry that the user has set up, or sets up later. Errors that it throws are reported; the call loses its
 * telemetry by them, and nothing else.
 */
export class Tracing {
  readonly #options: ResolvedTracingOptions;
  readonly #report: ReportError;
  #tracer: Tracer | undefined;

  constructor(options: ResolvedTracingOptions, report: ReportError) {
    this.#options = options;
    this.#report = report;
  }

  /** True when there is neither a tracer nor a propagator, so that there is nothing to do. */
  get idle(): boolean {
    return this.tracer() === undefined && !this.#carries();
  }

  /** The tracer, or `undefined` while no SDK is registered. */
  tracer(): Tracer | undefined {
    if (this.#tracer !== undefined) return this.#tracer;
    // Looked up for each call until there is one.
    this.#tracer = ask(this.#provided, readTracer, undefined, this.#report, "tracerProvider");
    return this.#tracer;
  }

  readonly #provided = (): Tracer | undefined =>
    tracerOf(this.#options.tracerProvider ?? trace.getTracerProvider());

  startSpan(name: string, options: SpanOptions, parent: Context): Span | undefined {
    const tracer = this.tracer();
    if (tracer === undefined) return undefined;
    const start = () => tracer.startSpan(name, options, parent);
    return ask(start, readSpan, undefined, this.#report, "tracerProvider");
  }

  /** Whether a span is recorded, so that its attributes and events are read. */
  records(span: Span | undefined): span is Span {
    if (span === undefined) return false;
    return ask(() => span.isRecording(), yesOrNo, false, this.#report, "tracerProvider");
  }

  /** Runs a task with a context active. If the context manager fails, the task runs without. */
  run<R>(active: Context, task: () => R): R {
    let outcome: { readonly result: R } | { readonly thrown: unknown } | undefined;
    const once = () => {
      if (outcome !== undefined) return;
      try {
        outcome = { result: task() };
      } catch (thrown) {
        outcome = { thrown };
      }
    };
    callSafely(() => context.with(active, once), this.#report, "contextManager");
    once();
    return resultOf(outcome);
  }

  /** Runs a task that changes or ends a span. The processors and exporters of the user may throw. */
  guard(task: () => void): void {
    callSafely(task, this.#report, "tracerProvider");
  }

  /** The span in a context; `undefined` where there is none, or none that has ids. */
  idsIn(held: Context): TraceIds | undefined {
    const spanContext = () => trace.getSpanContext(held);
    return ask(spanContext, readIds, undefined, this.#report, "tracerProvider");
  }

  /** The span that is active now. */
  activeIds(): TraceIds | undefined {
    const spanContext = () => trace.getSpanContext(context.active());
    return ask(spanContext, readIds, undefined, this.#report, "contextManager");
  }

  /** The metadata with the context in it: a copy, or the same object if the propagator adds nothing. */
  inject(active: Context, metadata: Metadata): Metadata {
    const carrier = new OutgoingCarrier(metadata);
    const inject = () => this.#propagator().inject(active, carrier, outgoingSetter);
    callSafely(inject, this.#report, "propagator");
    return carrier.metadata;
  }

  /** Puts the context into metadata that belongs to this call. */
  injectInto(active: Context, metadata: Metadata): void {
    const inject = () => this.#propagator().inject(active, metadata, metadataSetter);
    callSafely(inject, this.#report, "propagator");
  }

  /**
   * The context of the caller, on top of the root: the context that is active when a request arrives belongs to no
   * call.
   */
  extract(metadata: Metadata): Context {
    const extract = () => this.#propagator().extract(ROOT_CONTEXT, metadata, metadataGetter);
    return ask(extract, readContext, ROOT_CONTEXT, this.#report, "propagator");
  }

  #carries(): boolean {
    return ask(this.#hasFields, yesOrNo, false, this.#report, "propagator");
  }

  readonly #hasFields = (): boolean => this.#propagator().fields().length > 0;

  #propagator(): Pick<TextMapPropagator, "inject" | "extract" | "fields"> {
    return this.#options.propagator ?? propagation;
  }
}

/**
 * The global provider is a proxy for one that may be registered later. It has this method, which tells whether that has
 * happened.
 */
interface StandIn extends TracerProvider {
  getDelegateTracer?(name: string, version: string): Tracer | undefined;
}

function tracerOf(provider: StandIn): Tracer | undefined {
  return provider.getDelegateTracer === undefined
    ? provider.getTracer(tracerName, tracerVersion)
    : provider.getDelegateTracer(tracerName, tracerVersion);
}

// What a tracer or a propagator returns is used in many places, so it is checked where it comes in.

function readTracer(answer: unknown): Tracer | undefined {
  return answer === undefined ? undefined : having<Tracer>(answer, "startSpan");
}

function readSpan(answer: unknown): Span {
  return having<Span>(answer, "isRecording");
}

function readContext(answer: unknown): Context {
  return having<Context>(answer, "getValue");
}

/** The ids alone: what a span context has besides them, such as a `traceState`, may be large. */
function readIds(answer: unknown): TraceIds | undefined {
  if (answer === undefined) return undefined;
  const { traceId, spanId } = having<SpanContext>(answer, "traceId");
  return isValidTraceId(traceId) && isValidSpanId(spanId) ? { traceId, spanId } : undefined;
}

/** Checks that the SDK gave something with this method. */
export function having<T extends object>(answer: unknown, method: keyof T & string): T {
  if (typeof answer === "object" && answer !== null && method in answer) return answer as T;
  throw new TypeError(`it gave something without ${method}(): ${shown(answer)}`);
}

function resultOf<R>(
  outcome: { readonly result: R } | { readonly thrown: unknown } | undefined,
): R {
  if (outcome === undefined) throw new Error("a task that was run has an outcome");
  if ("thrown" in outcome) throw outcome.thrown;
  return outcome.result;
}

/** Metadata that is copied at the first write: it belongs to the caller, and often nothing is written. */
class OutgoingCarrier {
  metadata: Metadata;
  #copied = false;

  constructor(metadata: Metadata) {
    this.metadata = metadata;
  }

  /** Replaces the value: an instrumentation above may have put its own context there. */
  set(key: string, value: string): void {
    if (!this.#copied) {
      this.#copied = true;
      this.metadata = copyMetadata(this.metadata);
    }
    this.metadata.set(key, value);
  }
}

const outgoingSetter: TextMapSetter<OutgoingCarrier> = {
  set: (carrier, key, value) => carrier.set(key, value),
};

/** Writes into metadata that belongs to this call. */
const metadataSetter: TextMapSetter<Metadata> = {
  set: (metadata, key, value) => metadata.set(key, value),
};

/**
 * Gives all values of a key: `tracestate` and `baggage` may come in several pieces.
 *
 * @internal Exported for its tests.
 */
export const metadataGetter: TextMapGetter<Metadata> = {
  get(metadata, key) {
    const values = metadata.get(key).filter((value) => typeof value === "string");
    return values.length > 1 ? values : values[0];
  },
  keys: (metadata) => Object.keys(metadata.getMap()),
};

/** The instrumentation scope of OpenTelemetry's own instrumentation of grpc-js. */
const scope = "@opentelemetry/instrumentation-grpc";

/** What the spans of the SDK have beyond the API. */
interface ReadableSpan extends Span {
  readonly name?: unknown;
  readonly kind?: unknown;
  readonly instrumentationScope?: { readonly name?: unknown };
}

/**
 * The span that OpenTelemetry's own instrumentation has made for this call, if it is in use. The toolkit's interceptors
 * run inside that span, and take it as the call span, so that a call has one span of kind CLIENT. The name is compared,
 * too: a further call that an interceptor makes runs inside the same span.
 */
export function instrumentedSpan(active: Context, path: string): Span | undefined {
  const span: ReadableSpan | undefined = trace.getSpan(active);
  if (span?.instrumentationScope?.name !== scope || span.kind !== SpanKind.CLIENT) return undefined;
  return span.name === `grpc.${rpcMethod(path)}` && span.isRecording() ? span : undefined;
}

/**
 * Whether OpenTelemetry's own instrumentation is in use on servers. It makes its span inside the handler, with a parent
 * from the metadata that the handler gets.
 */
export function serverInstrumented(): boolean {
  const register: unknown = Reflect.get(Server.prototype, "register");
  return typeof register === "function" && Reflect.get(register, "__wrapped") === true;
}
