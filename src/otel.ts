export type { SurroundingsOptions } from "./grpc/surroundings.js";
export type { ClientSpans } from "./telemetry/client-spans.js";
export { clientSpans } from "./telemetry/client-spans.js";
export { serverSpans } from "./telemetry/server-spans.js";
export type { TelemetryOptions } from "./telemetry/telemetry-options.js";
