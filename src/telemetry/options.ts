import type { TextMapPropagator, TracerProvider } from "@opentelemetry/api";
import { InvalidOptionError, readOptions } from "../core/options.js";
import {
  type Environment,
  type EnvironmentOptions,
  environmentOptionNames,
  takeEnvironment,
} from "../grpc/environment.js";

/** Whether the toolkit makes spans, and with which OpenTelemetry. Without an SDK nothing is recorded. */
export interface TelemetryOptions {
  /** `false`: no spans, and no trace context in the metadata. @defaultValue true */
  readonly tracing?: boolean;
  /** Makes the spans. @defaultValue the global provider, which may be registered later */
  readonly tracerProvider?: TracerProvider;
  /** Writes and reads the trace context in the metadata. @defaultValue the global one, which may be registered later */
  readonly propagator?: TextMapPropagator;
}

/** The checked options. */
export interface ResolvedTelemetryOptions {
  readonly tracing: boolean;
  /** `undefined` for the global one. */
  readonly tracerProvider: TracerProvider | undefined;
  /** `undefined` for the global one. */
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
 * Reads the options of an interceptor for spans that is used without a weir.
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
