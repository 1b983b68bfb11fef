import type { Interceptor } from "@grpc/grpc-js";
import { interceptorOf, type Part, type SpanParts } from "../grpc/client/parts.js";
import type { Environment, EnvironmentOptions, TraceReader } from "../grpc/environment.js";
import { attemptSpanPart } from "./attempt-span.js";
import { CallTrace, callSpanPart } from "./call-span.js";
import {
  type ResolvedTracingOptions,
  splitTracingOptions,
  type TracingOptions,
} from "./options.js";
import { Tracing } from "./tracing.js";

/**
 * The parts that make a client's spans, all of kind CLIENT.
 *
 * - `call`: one span for a call, over all of its attempts, with the decisions of the policies as events. It belongs
 *   directly below the context part. Where OpenTelemetry's own instrumentation of grpc-js has made a span for the
 *   call, attributes and events are added to that span instead.
 * - `attempt`: one span for each attempt that goes on the wire, a child of the call's, and the trace context in the
 *   attempt's metadata. It belongs innermost, so that an attempt which a policy refuses has no span.
 */
export function spanParts(environment: Environment, telemetry: ResolvedTracingOptions): SpanParts {
  return telemetry.tracing ? partsOf(new Tracing(telemetry, environment.report)) : {};
}

function partsOf(tracing: Tracing): Required<SpanParts> {
  return { call: callSpanPart(tracing), attempt: attemptSpanPart(tracing) };
}

/** Reads the traces of calls, for who tells of them in other ways than by spans. */
export function traceReader(
  { report }: Environment,
  telemetry: ResolvedTracingOptions,
): TraceReader {
  const tracing = new Tracing(telemetry, report);
  return {
    active: () => tracing.activeIds(),
    of: (kept) => (kept instanceof CallTrace ? tracing.idsIn(kept.context) : undefined),
  };
}

/**
 * The two interceptors that make the spans of a client.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/tracing.md
 */
export interface ClientSpans {
  /** Makes a span for each call. Put it outermost, directly below `context`. */
  readonly call: Interceptor;
  /**
   * Makes a span for each attempt, and puts the trace context into its metadata. Put it innermost, below all policies.
   */
  readonly attempt: Interceptor;
}

/**
 * The interceptors for the spans of a client, if you order the interceptors without a weir.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/tracing.md
 */
export function clientSpans(options: TracingOptions & EnvironmentOptions = {}): ClientSpans {
  const { environment, telemetry } = splitTracingOptions(options, "clientSpans");
  const tracing = new Tracing(telemetry, environment.report);
  const alone = (part: Part): Interceptor => {
    const interceptor = interceptorOf(environment, part);
    return (callOptions, nextCall) => {
      if (telemetry.tracing && !tracing.idle) return interceptor(callOptions, nextCall);
      // Without spans, no call record is needed.
      return nextCall(callOptions) as ReturnType<Interceptor>;
    };
  };
  const { call, attempt } = partsOf(tracing);
  return { call: alone(call), attempt: alone(attempt) };
}
