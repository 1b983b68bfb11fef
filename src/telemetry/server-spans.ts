import type { ServerInterceptor } from "@grpc/grpc-js";
import type { Surroundings, SurroundingsOptions } from "../grpc/surroundings.js";
import { ServerSpanCall } from "./server-span.js";
import { splitTelemetryOptions } from "./standalone.js";
import type { ResolvedTelemetryOptions, TelemetryOptions } from "./telemetry-options.js";
import { Tracing } from "./tracing.js";

const passThrough: ServerInterceptor = (_method, call) => call as ReturnType<ServerInterceptor>;

/**
 * One span of kind SERVER for each inbound call, refused ones included, with the decisions of the policies as
 * events. It is active for the handler and all its events. It belongs directly behind the context
 * interceptor; without that, it knows neither priority nor decisions.
 */
export function serverSpanInterceptor(
  surroundings: Surroundings,
  options: ResolvedTelemetryOptions,
): ServerInterceptor {
  if (!options.tracing) return passThrough;
  const { clock, report } = surroundings;
  const tracing = new Tracing(options, report);
  return (method, call) =>
    tracing.idle ? passThrough(method, call) : new ServerSpanCall(method, call, clock, tracing);
}

/**
 * The spans of a server, for who orders the interceptors without a weir. Put it behind `context`, before all
 * policies.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function serverSpans(
  options: TelemetryOptions & SurroundingsOptions = {},
): ServerInterceptor {
  const { surroundings, telemetry } = splitTelemetryOptions(options, "serverSpans");
  return serverSpanInterceptor(surroundings, telemetry);
}
