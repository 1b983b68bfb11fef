import type { Metadata } from "@grpc/grpc-js";
import {
  type Context,
  propagation,
  ROOT_CONTEXT,
  type Span,
  type SpanOptions,
  type TextMapPropagator,
  type Tracer,
  type TracerProvider,
  trace,
} from "@opentelemetry/api";
import { type ReportError, safely } from "../core/user-code.js";
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
    try {
      this.#tracer = tracerOf(this.#options.tracerProvider ?? trace.getTracerProvider());
    } catch (error) {
      safely(this.#report, error, "tracerProvider");
    }
    return this.#tracer;
  }

  startSpan(name: string, options: SpanOptions, parent: Context): Span | undefined {
    try {
      return this.tracer()?.startSpan(name, options, parent);
    } catch (error) {
      safely(this.#report, error, "tracerProvider");
      return undefined;
    }
  }

  /** Does something with a span. Its processors and exporters are the user's, and may throw. */
  guard(task: () => void): void {
    try {
      task();
    } catch (error) {
      safely(this.#report, error, "tracerProvider");
    }
  }

  /** The metadata with the context in it: a copy, or the same object where there was nothing to add. */
  inject(context: Context, metadata: Metadata): Metadata {
    const carrier = new OutgoingCarrier(metadata);
    try {
      this.#propagator().inject(context, carrier, outgoingSetter);
    } catch (error) {
      safely(this.#report, error, "propagator");
    }
    return carrier.metadata;
  }

  /** Puts the context into metadata that belongs to us. */
  injectInto(context: Context, metadata: Metadata): void {
    try {
      this.#propagator().inject(context, metadata, metadataSetter);
    } catch (error) {
      safely(this.#report, error, "propagator");
    }
  }

  /** The caller's context. It stands on the root: what is active where requests arrive is nobody's. */
  extract(metadata: Metadata): Context {
    try {
      return this.#propagator().extract(ROOT_CONTEXT, metadata, metadataGetter);
    } catch (error) {
      safely(this.#report, error, "propagator");
      return ROOT_CONTEXT;
    }
  }

  #carries(): boolean {
    try {
      return this.#propagator().fields().length > 0;
    } catch (error) {
      safely(this.#report, error, "propagator");
      return false;
    }
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
