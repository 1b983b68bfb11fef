import type { Metadata } from "@grpc/grpc-js";
import {
  type Context,
  context,
  propagation,
  ROOT_CONTEXT,
  type Span,
  type SpanOptions,
  type TextMapPropagator,
  type Tracer,
  type TracerProvider,
  trace,
} from "@opentelemetry/api";
import { ask, type ReportError, shown, tell, yesOrNo } from "../core/user-code.js";
import { metadataGetter, metadataSetter, OutgoingCarrier, outgoingSetter } from "./carrier.js";
import type { ResolvedTelemetryOptions } from "./telemetry-options.js";

/** The instrumentation scope of all spans of the toolkit. */
const tracerName = "grpc-weir";
/** Its version: the package's. */
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
