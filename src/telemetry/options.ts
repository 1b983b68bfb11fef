import type { TextMapPropagator, TracerProvider } from "@opentelemetry/api";
import { InvalidOptionError, readOptions } from "../core/options.js";
import {
  type Environment,
  type EnvironmentOptions,
  environmentOptionNames,
  takeEnvironment,
} from "../grpc/environment.js";

/** Which OpenTelemetry the toolkit tells, and whether. Without an SDK, nothing is recorded. */
export interface TelemetryOptions {
  /** `false`: no spans, and no trace context in the metadata. @defaultValue true */
  readonly tracing?: boolean;
  /** Where spans go. @defaultValue the global one, whenever it is registered */
  readonly tracerProvider?: TracerProvider;
  /** What carries the trace context in the metadata. @defaultValue the global one, whenever it is registered */
  readonly propagator?: TextMapPropagator;
}

export interface ResolvedTelemetryOptions {
  readonly tracing: boolean;
  /** Absent: the global one. */
  readonly tracerProvider: TracerProvider | undefined;
  /** Absent: the global one. */
  readonly propagator: TextMapPropagator | undefined;
}

/** Names of the options in {@link TelemetryOptions}. */
const telemetryOptionNames: readonly (keyof TelemetryOptions)[] = [
  "tracing",
  "tracerProvider",
  "propagator",
];

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveTelemetryOptions(
  given: TelemetryOptions = {},
  prefix = "telemetry",
): ResolvedTelemetryOptions {
  const options = readOptions(prefix, given, telemetryOptionNames);
  const { tracing = true, tracerProvider, propagator } = options;
  if (typeof tracing !== "boolean") {
    throw new InvalidOptionError(`${prefix}.tracing`, "true or false", tracing);
  }
  mustHave(`${prefix}.tracerProvider`, "a tracer provider", tracerProvider, ["getTracer"]);
  mustHave(`${prefix}.propagator`, "a propagator", propagator, ["inject", "extract", "fields"]);
  return Object.freeze({ tracing, tracerProvider, propagator });
}

function mustHave<T extends object>(
  option: string,
  what: string,
  value: T | undefined,
  methods: readonly (keyof T & string)[],
): void {
  if (value === undefined) return;
  for (const method of methods) {
    if (typeof value?.[method] !== "function") {
      throw new InvalidOptionError(option, `${what}: it has no ${method}()`, value);
    }
  }
}

/**
 * Reads the options of telemetry that is used without a weir.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function splitTelemetryOptions(
  given: TelemetryOptions & EnvironmentOptions,
  prefix: string,
): { readonly environment: Environment; readonly telemetry: ResolvedTelemetryOptions } {
  const options = readOptions(prefix, given, [...telemetryOptionNames, ...environmentOptionNames]);
  const { environment, rest } = takeEnvironment(options, prefix);
  return {
    environment,
    telemetry: resolveTelemetryOptions(rest, prefix),
  };
}
