export type { Guard, GuardSnapshot } from "./client/guard.js";
export type {
  GuardBreakerOptions,
  GuardBulkheadOptions,
  GuardedWork,
  GuardFallbackOptions,
  GuardOptions,
  GuardRetryOptions,
  GuardRunOptions,
} from "./client/guard-options.js";
export type { ClientPolicy, MethodPolicy } from "./client/method-policy.js";
export type { BreakerControl } from "./core/breaker-control.js";
export type { Clock } from "./core/clock.js";
export type { Decision, PolicyName, Verdict } from "./core/decision.js";
export type { FaultsControl } from "./core/faults-control.js";
export type { Mode } from "./core/mode.js";
export type { ObservedRefusals, ObservedReport } from "./core/observe-report.js";
export { InvalidOptionError } from "./core/options.js";
export type { PolicyControl } from "./core/policy-control.js";
export type { Priority } from "./core/priority.js";
export type { Random } from "./core/random.js";
export type { Reason } from "./core/reasons.js";
export type { DecisionEvent } from "./grpc/call-record.js";
export type { Degradation } from "./grpc/degraded.js";
export { degradationOf } from "./grpc/degraded.js";
export { GuardRejectedError } from "./grpc/guard-rejection.js";
export type { CurrentCall } from "./grpc/inbound-call.js";
export { currentCall, detached } from "./grpc/inbound-call.js";
export { cohortKey, priorityKey } from "./grpc/metadata-keys.js";
export { prioritized, withPriority } from "./grpc/priority-context.js";
export type { CallOverrides } from "./grpc/record-transformer.js";
export type { Rejection } from "./grpc/rejection.js";
export { rejectionOf } from "./grpc/rejection.js";
export type { CallKind } from "./grpc/types.js";
export type { DrainableServer, DrainOptions, DrainReport, HealthStatus } from "./server/drain.js";
export type { LoadReportOptions, UtilizationRecorder } from "./server/load-report.js";
export type { ServerPolicy } from "./server/server-policy.js";
export type { Weir, WeirOptions, WeirSnapshot } from "./weir.js";
export { createWeir } from "./weir.js";
