export type { EnvironmentOptions } from "./grpc/environment.js";
export type { ClientSpans } from "./telemetry/client-spans.js";
export { clientSpans } from "./telemetry/client-spans.js";
export type { MetricsOptions, TelemetryOptions, TracingOptions } from "./telemetry/options.js";
export { serverSpans } from "./telemetry/server-spans.js";
