import type { MeterProvider, TextMapPropagator, TracerProvider } from "@opentelemetry/api";
import { InvalidOptionError, oneOf, readOptions } from "../core/options.js";
import {
  type Environment,
  type EnvironmentOptions,
  environmentOptionNames,
  takeEnvironment,
} from "../grpc/environment.js";

/**
 * Whether the toolkit makes spans, and with which OpenTelemetry. Without an SDK nothing is recorded.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/tracing.md
 */
export interface TracingOptions {
  /** `false`: no spans, and no trace context in the metadata. @defaultValue true */
  readonly tracing?: boolean;
  /** Makes the spans. @defaultValue the global provider, which may be registered later */
  readonly tracerProvider?: TracerProvider;
  /** Writes and reads the trace context in the metadata. @defaultValue the global one, which may be registered later */
  readonly propagator?: TextMapPropagator;
}

/**
 * Whether the toolkit measures, and with which OpenTelemetry. Without an SDK nothing is measured.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/metrics.md
 */
export interface MetricsOptions {
  /** `false`: nothing is measured. @defaultValue true */
  readonly metrics?: boolean;
  /** Makes the instruments. @defaultValue the global provider, which may be registered later */
  readonly meterProvider?: MeterProvider;
  /**
   * By which names calls and attempts are measured: `otel` for the semantic conventions of OpenTelemetry, `grpc` for those
   * of gRPC (gRFC A66 and A96), such as dashboards of Go and Java services use them, `both` for both. The toolkit's own
   * names, `weir.*`, are there in any case. @defaultValue `otel`
   */
  readonly metricNames?: MetricNames;
}

export type MetricNames = (typeof metricNames)[number];

const metricNames = ["otel", "grpc", "both"] as const;

/**
 * What goes to OpenTelemetry. Without an SDK nothing is recorded and nothing is measured.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/tracing.md
 */
export interface TelemetryOptions extends TracingOptions, MetricsOptions {}

/** The checked options for metrics. */
export interface ResolvedMetricsOptions {
  readonly metrics: boolean;
  /** `undefined` for the global one. */
  readonly meterProvider: MeterProvider | undefined;
  readonly metricNames: MetricNames;
}

/** The checked options for spans. */
export interface ResolvedTracingOptions {
  readonly tracing: boolean;
  /** `undefined` for the global one. */
  readonly tracerProvider: TracerProvider | undefined;
  /** `undefined` for the global one. */
  readonly propagator: TextMapPropagator | undefined;
}

/** All checked options. */
export interface ResolvedTelemetryOptions extends ResolvedTracingOptions, ResolvedMetricsOptions {}

/** Names of the options in {@link TracingOptions}. */
const tracingOptionNames: readonly (keyof TracingOptions)[] = [
  "tracing",
  "tracerProvider",
  "propagator",
];

/** Names of the options in {@link MetricsOptions}. */
const metricsOptionNames: readonly (keyof MetricsOptions)[] = [
  "metrics",
  "meterProvider",
  "metricNames",
];

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveTelemetryOptions(
  given: TelemetryOptions = {},
  prefix = "telemetry",
): ResolvedTelemetryOptions {
  const options = readOptions(prefix, given, [...tracingOptionNames, ...metricsOptionNames]);
  const { metrics = true, meterProvider, metricNames: names = "otel", ...tracing } = options;
  if (typeof metrics !== "boolean") {
    throw new InvalidOptionError(`${prefix}.metrics`, "true or false", metrics);
  }
  mustHave(`${prefix}.meterProvider`, "a meter provider", meterProvider, ["getMeter"]);
  oneOf(`${prefix}.metricNames`, names, metricNames);
  const resolved = resolveTracingOptions(tracing, prefix);
  return Object.freeze({ ...resolved, metrics, meterProvider, metricNames: names });
}

function resolveTracingOptions(given: TracingOptions, prefix: string): ResolvedTracingOptions {
  const options = readOptions(prefix, given, tracingOptionNames);
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
export function splitTracingOptions(
  given: TracingOptions & EnvironmentOptions,
  prefix: string,
): { readonly environment: Environment; readonly telemetry: ResolvedTracingOptions } {
  const options = readOptions(prefix, given, [...tracingOptionNames, ...environmentOptionNames]);
  const { environment, rest } = takeEnvironment(options, prefix);
  return {
    environment,
    telemetry: resolveTracingOptions(rest, prefix),
  };
}
