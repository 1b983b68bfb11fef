import type { Interceptor } from "@grpc/grpc-js";
import { context } from "@opentelemetry/api";
import { withRecord } from "../grpc/context/call-record.js";
import type { Environment, EnvironmentOptions } from "../grpc/environment.js";
import { AttemptSpanCall } from "./attempt-span.js";
import { CallSpanCall, traceOf } from "./call-span.js";
import {
  type ResolvedTelemetryOptions,
  splitTelemetryOptions,
  type TelemetryOptions,
} from "./options.js";
import { Tracing } from "./tracing.js";

const passThrough: Interceptor = (options, nextCall) =>
  nextCall(options) as ReturnType<Interceptor>;

/**
 * One span of kind CLIENT for each call, over all its attempts, with the decisions of the policies as events.
 * It belongs directly below the context interceptor. Where OpenTelemetry's own instrumentation of grpc-js
 * has made a span for the call, that one is added to instead.
 */
export function callSpanInterceptor(
  environment: Environment,
  options: ResolvedTelemetryOptions,
): Interceptor {
  if (!options.tracing) return passThrough;
  const tracing = new Tracing(options, environment.report);
  return (callOptions, nextCall) => {
    if (tracing.idle) return passThrough(callOptions, nextCall);
    const own = withRecord(callOptions, environment);
    return new CallSpanCall(own.options, nextCall, own.record, tracing, context.active());
  };
}

/**
 * One span of kind CLIENT for each attempt that goes on the wire, below the call's, and the trace context in the
 * attempt's metadata. It belongs innermost, so that an attempt which a policy refuses has none.
 */
export function attemptSpanInterceptor(
  environment: Environment,
  options: ResolvedTelemetryOptions,
): Interceptor {
  if (!options.tracing) return passThrough;
  const tracing = new Tracing(options, environment.report);
  return (callOptions, nextCall) => {
    if (tracing.idle) return passThrough(callOptions, nextCall);
    const own = withRecord(callOptions, environment);
    return new AttemptSpanCall(
      own.options,
      nextCall,
      own.record,
      traceOf(own.options, own.record),
      tracing,
    );
  };
}

/** The two interceptors of a client's traces. */
export interface ClientSpans {
  /** A span for each call. Put it outermost, behind `context`. */
  readonly call: Interceptor;
  /** A span for each attempt, and the trace context in its metadata. Put it innermost, behind all policies. */
  readonly attempt: Interceptor;
}

/**
 * The spans of a client, for who orders the interceptors without a weir.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function clientSpans(options: TelemetryOptions & EnvironmentOptions = {}): ClientSpans {
  const { environment, telemetry } = splitTelemetryOptions(options, "clientSpans");
  return {
    call: callSpanInterceptor(environment, telemetry),
    attempt: attemptSpanInterceptor(environment, telemetry),
  };
}
