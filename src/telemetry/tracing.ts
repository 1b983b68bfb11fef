import { type Metadata, Server } from "@grpc/grpc-js";
import {
  type Context,
  context,
  propagation,
  ROOT_CONTEXT,
  type Span,
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
import { ask, type ReportError, tell, yesOrNo } from "../core/user-code.js";
import { copyMetadata } from "../grpc/client/kept-metadata.js";
import { rpcMethod } from "./attributes.js";
import type { ResolvedTelemetryOptions } from "./options.js";

/** The instrumentation scope of all spans of the toolkit. */
const tracerName = "grpc-weir";
/**
 * Its version: the package's.
 *
 * @internal Exported for its tests.
 */
export const tracerVersion = "0.1.0";

/**
 * The OpenTelemetry that the user has set up, now or later. What it throws is reported and costs the call
 * its telemetry only.
 */
export class Tracing {
  readonly #options: ResolvedTelemetryOptions;
  readonly #report: ReportError;
  #tracer: Tracer | undefined;

  constructor(options: ResolvedTelemetryOptions, report: ReportError) {
    this.#options = options;
    this.#report = report;
  }

  /** Nothing records spans, and nothing carries a context over the wire: there is nothing to do. */
  get idle(): boolean {
    return this.tracer() === undefined && !this.#carries();
  }

  /** The tracer, or `undefined` while no SDK is registered. */
  tracer(): Tracer | undefined {
    if (this.#tracer !== undefined) return this.#tracer;
    // Asked of each call until there is one.
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

  /** Whether anybody will read what is told to a span. */
  records(span: Span | undefined): span is Span {
    if (span === undefined) return false;
    return ask(() => span.isRecording(), yesOrNo, false, this.#report, "tracerProvider");
  }

  /** Does something with a context active. A context manager that fails costs it the context, and nothing else. */
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
    tell(() => context.with(active, once), this.#report, "contextManager");
    once();
    return resultOf(outcome);
  }

  /** Does something with a span. Its processors and exporters are the user's, and may throw. */
  guard(task: () => void): void {
    tell(task, this.#report, "tracerProvider");
  }

  /** The metadata with the context in it: a copy, or the same object where there was nothing to add. */
  inject(active: Context, metadata: Metadata): Metadata {
    const carrier = new OutgoingCarrier(metadata);
    const inject = () => this.#propagator().inject(active, carrier, outgoingSetter);
    tell(inject, this.#report, "propagator");
    return carrier.metadata;
  }

  /** Puts the context into metadata that belongs to us. */
  injectInto(active: Context, metadata: Metadata): void {
    const inject = () => this.#propagator().inject(active, metadata, metadataSetter);
    tell(inject, this.#report, "propagator");
  }

  /** The caller's context. It stands on the root: what is active where requests arrive is nobody's. */
  extract(metadata: Metadata): Context {
    const extract = () => this.#propagator().extract(ROOT_CONTEXT, metadata, metadataGetter);
    return ask(extract, readContext, ROOT_CONTEXT, this.#report, "propagator");
  }

  #carries(): boolean {
    const fields = () => this.#propagator().fields().length > 0;
    return ask(fields, yesOrNo, false, this.#report, "propagator");
  }

  #propagator(): Pick<TextMapPropagator, "inject" | "extract" | "fields"> {
    return this.#options.propagator ?? propagation;
  }
}

/** The global provider stands in for one that may be registered later, and tells whether it was. */
interface StandIn extends TracerProvider {
  getDelegateTracer?(name: string, version: string): Tracer | undefined;
}

function tracerOf(provider: StandIn): Tracer | undefined {
  return provider.getDelegateTracer === undefined
    ? provider.getTracer(tracerName, tracerVersion)
    : provider.getDelegateTracer(tracerName, tracerVersion);
}

// What a tracer or a propagator gives is used in many places: it is looked at once.

function readTracer(answer: unknown): Tracer | undefined {
  return answer === undefined ? undefined : having<Tracer>(answer, "startSpan");
}

function readSpan(answer: unknown): Span {
  return having<Span>(answer, "isRecording");
}

function readContext(answer: unknown): Context {
  return having<Context>(answer, "getValue");
}

function having<T extends object>(answer: unknown, method: keyof T & string): T {
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

/** Metadata that is copied when something is written: it is the caller's, and often nothing is. */
class OutgoingCarrier {
  metadata: Metadata;
  #copied = false;

  constructor(metadata: Metadata) {
    this.metadata = metadata;
  }

  /** Replaces: an instrumentation outside may have put its own, older context there. */
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

/** Writes into metadata that belongs to us. */
const metadataSetter: TextMapSetter<Metadata> = {
  set: (metadata, key, value) => metadata.set(key, value),
};

/**
 * All values of a key: `tracestate` and `baggage` may come in several pieces.
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

/** Instrumentation scope of OpenTelemetry's own instrumentation of grpc-js. */
const scope = "@opentelemetry/instrumentation-grpc";

/** What the SDK's spans tell, beside what the API promises. */
interface ReadableSpan extends Span {
  readonly name?: unknown;
  readonly kind?: unknown;
  readonly instrumentationScope?: { readonly name?: unknown };
}

/**
 * The span that OpenTelemetry's own instrumentation has made for this call, if it is at work. The toolkit's
 * interceptors run inside it; it serves as call span, because a call is to have one span of kind CLIENT.
 * The name is looked at, too: a call that an interceptor makes on the side stands inside as well.
 */
export function instrumentedSpan(active: Context, path: string): Span | undefined {
  const span: ReadableSpan | undefined = trace.getSpan(active);
  if (span?.instrumentationScope?.name !== scope || span.kind !== SpanKind.CLIENT) return undefined;
  return span.name === `grpc.${rpcMethod(path)}` && span.isRecording() ? span : undefined;
}

/**
 * OpenTelemetry's own instrumentation is at work on servers. It makes its span inside the handler, from the
 * metadata that the handler sees.
 */
export function serverInstrumented(): boolean {
  const register: unknown = Reflect.get(Server.prototype, "register");
  return typeof register === "function" && Reflect.get(register, "__wrapped") === true;
}
