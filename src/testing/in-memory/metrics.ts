import type { ServerInterceptingCallInterface } from "@grpc/grpc-js";

type MetricsRecorder = ReturnType<ServerInterceptingCallInterface["getMetricsRecorder"]>;

/** Takes measurements and drops them: without `grpc.server_call_metric_recording` nobody sees them. */
export function metricsRecorder(): MetricsRecorder {
  const ignore = () => {};
  const recorder: Record<keyof MetricsRecorder, unknown> = {
    recordRequestCostMetric: ignore,
    recordUtilizationMetric: ignore,
    recordNamedMetric: ignore,
    recordCPUUtilizationMetric: ignore,
    recordMemoryUtilizationMetric: ignore,
    recordApplicationUtilizationMetric: ignore,
    recordQpsMetric: ignore,
    recordEpsMetric: ignore,
    serialize: () => Buffer.alloc(0),
  };
  // The class is not exported by grpc-js, and its private field keeps others from implementing it.
  return recorder as unknown as MetricsRecorder;
}
