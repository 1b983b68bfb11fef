import type { ReportError } from "../core/user-code.js";
import type { GuardSpans } from "../grpc/guard-spans.js";
import { GuardRunSpan } from "./guard-span.js";
import type { ResolvedTelemetryOptions } from "./telemetry-options.js";
import { Tracing } from "./tracing.js";

/**
 * One span of kind INTERNAL for each guarded run, with the decisions of the policies as events, and one below it for
 * each attempt, which is active while the work runs. `undefined` where there are to be none.
 */
export function guardSpans(
  options: ResolvedTelemetryOptions,
  report: ReportError,
): GuardSpans | undefined {
  if (!options.tracing) return undefined;
  const tracing = new Tracing(options, report);
  return {
    get idle() {
      return tracing.tracer() === undefined;
    },
    start: (run) => GuardRunSpan.start(run, tracing),
  };
}
