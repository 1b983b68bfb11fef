import type { Interceptor } from "@grpc/grpc-js";
import { context } from "@opentelemetry/api";
import { interceptorOf, type Layer, type SpanLayers } from "../grpc/client/layers.js";
import { recordKey } from "../grpc/context/call-record.js";
import type { Environment, EnvironmentOptions } from "../grpc/environment.js";
import { AttemptSpanCall } from "./attempt-span.js";
import { CallSpanCall, traceOf } from "./call-span.js";
import {
  type ResolvedTelemetryOptions,
  splitTelemetryOptions,
  type TelemetryOptions,
} from "./options.js";
import { Tracing } from "./tracing.js";

/**
 * The layers of a client's spans, all of kind CLIENT.
 *
 * - `call`: one span for a call, over all of its attempts, with the decisions of the policies as events. It belongs
 *   directly below the context layer. Where OpenTelemetry's own instrumentation of grpc-js has made a span for the
 *   call, attributes and events are added to that span instead.
 * - `attempt`: one span for each attempt that goes on the wire, a child of the call's, and the trace context in the
 *   attempt's metadata. It belongs innermost, so that an attempt which a policy refuses has no span.
 */
export function spanLayers(
  environment: Environment,
  telemetry: ResolvedTelemetryOptions,
): SpanLayers {
  return telemetry.tracing ? layersOf(new Tracing(telemetry, environment.report)) : {};
}

function layersOf(tracing: Tracing): Required<SpanLayers> {
  return {
    call(options, nextCall) {
      if (tracing.idle) return nextCall(options);
      return new CallSpanCall(options, nextCall, options[recordKey], tracing, context.active());
    },
    attempt(options, nextCall) {
      if (tracing.idle) return nextCall(options);
      const record = options[recordKey];
      const callTrace = traceOf(options, record);
      return new AttemptSpanCall(options, nextCall, record, callTrace, tracing);
    },
  };
}

/** The two interceptors that make the spans of a client. */
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
 */
export function clientSpans(options: TelemetryOptions & EnvironmentOptions = {}): ClientSpans {
  const { environment, telemetry } = splitTelemetryOptions(options, "clientSpans");
  const tracing = new Tracing(telemetry, environment.report);
  const alone = (layer: Layer): Interceptor => {
    const interceptor = interceptorOf(environment, layer);
    return (callOptions, nextCall) => {
      if (telemetry.tracing && !tracing.idle) return interceptor(callOptions, nextCall);
      // Without spans, no call record is needed.
      return nextCall(callOptions) as ReturnType<Interceptor>;
    };
  };
  const { call, attempt } = layersOf(tracing);
  return { call: alone(call), attempt: alone(attempt) };
}
