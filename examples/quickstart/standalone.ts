// #region standalone
import type { ClientOptions, ServerOptions } from "@grpc/grpc-js";
import { breaker, bulkhead, context, deadline, retry } from "grpc-weir/client";
import { clientSpans, serverSpans } from "grpc-weir/otel";
import { admission, deadlineGuard, context as serverContext } from "grpc-weir/server";

/** Your own order. The first interceptor sees the call first; below `retry` each sees one attempt. */
export function clientOptions(): ClientOptions {
  const spans = clientSpans();
  return {
    "grpc.service_config_disable_resolution": 1,
    interceptors: [
      context(),
      spans.call,
      deadline({ defaultMs: 2_000 }),
      retry({ maxAttempts: 3 }),
      bulkhead({ maxConcurrent: 64 }),
      breaker({ failureRate: 0.5 }),
      spans.attempt,
    ],
  };
}

/** The first interceptor is nearest the wire. */
export function serverOptions(): ServerOptions {
  return {
    interceptors: [serverContext(), serverSpans(), deadlineGuard(), admission({ limit: 200 })],
  };
}
// #endregion
