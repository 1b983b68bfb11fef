export type { Clock, Random } from "./core/clock.js";
export type {
  ControlledName,
  Mode,
  NamedSnapshot,
  ObservedRefusals,
  ObservedReport,
  PolicyControl,
} from "./core/control.js";
export type {
  Decision,
  DecisionEvent,
  PolicyName,
  Reason,
  RefusalReason,
  Verdict,
} from "./core/decision.js";
export type { ByMethod, MethodName } from "./core/method-names.js";
export { InvalidOptionError } from "./core/options.js";
export type { PollingOptions } from "./core/polling.js";
export type { Priority } from "./core/priority.js";
export type { StatusCodeOption } from "./core/status.js";
export { prioritized, withPriority } from "./grpc/context/ambient-priority.js";
export type { CallOverrides } from "./grpc/context/call-record.js";
export type {
  CallSummary,
  CallWait,
  FinishedAttempt,
  FinishedCall,
  FinishedDecision,
  TraceIds,
} from "./grpc/context/finished-call.js";
export type { CallHistory, HistoryOptions } from "./grpc/context/history.js";
export type { CurrentCall, HeldKey } from "./grpc/context/inbound-call.js";
export { currentCall, detached } from "./grpc/context/inbound-call.js";
export { cohortKey, priorityKey } from "./grpc/metadata.js";
export type { Degradation } from "./grpc/status/degraded.js";
export { degradationOf } from "./grpc/status/degraded.js";
export { GuardRejectedError } from "./grpc/status/guard-rejected-error.js";
export type { Rejection } from "./grpc/status/rejection.js";
export { rejectionOf } from "./grpc/status/rejection.js";
export { isServiceError } from "./grpc/status/service-error.js";
export type { CallKind } from "./grpc/types.js";
export type { Guard, GuardSnapshot } from "./guard/guard.js";
export type {
  GuardBreakerOptions,
  GuardBulkheadOptions,
  GuardedWork,
  GuardFallbackOptions,
  GuardOptions,
  GuardRetryOptions,
  GuardRunOptions,
} from "./guard/options.js";
export type { ClientPolicy, MethodPolicy } from "./pipeline/client.js";
export type { PolicySnapshot, PolicySnapshots } from "./pipeline/controls.js";
export type { LoadReportOptions, UtilizationRecorder } from "./pipeline/load-report.js";
export type {
  ExplainedPolicies,
  PolicyExplanation,
  PolicySetting,
  SettingOrigin,
} from "./pipeline/policy-explanation.js";
export type {
  OptionData,
  PolicyChange,
  PolicyEvent,
  PolicySet,
  PolicySource,
  PolicyWatcher,
  SchemaPolicies,
  SchemaSource,
} from "./pipeline/policy-set.js";
export type { ServerPolicy } from "./pipeline/server.js";
export type { AdmissionPolicySnapshot } from "./policies/admission/server.js";
export type { BreakerControl, BreakersSnapshot } from "./policies/breaker/breakers.js";
export type { BreakerSnapshot } from "./policies/breaker/snapshot.js";
export type { BrownoutSnapshot } from "./policies/brownout/brownout.js";
export type { BulkheadPolicySnapshot, BulkheadsSnapshot } from "./policies/bulkhead/bulkhead.js";
export type { DeadlineGuardSnapshot, FeasibilitySnapshot } from "./policies/deadline/server.js";
export type {
  DrainableServer,
  DrainOptions,
  DrainReport,
  HealthStatus,
} from "./policies/drain/server.js";
export type { FallbackSnapshot } from "./policies/fallback/client-policy.js";
export type { FaultsControl, FaultsSnapshot } from "./policies/faults/faults.js";
export type { FlagChange, FlagsSnapshot } from "./policies/flags/flags.js";
export type {
  OpenFeatureClient,
  OpenFeatureDetails,
  OpenFeatureEvent,
  OpenFeatureFlags,
  OpenFeatureFlagsOptions,
} from "./policies/flags/open-feature.js";
export { openFeatureFlags } from "./policies/flags/open-feature.js";
export type { FlagSource, FlagValue, StaticFlags } from "./policies/flags/source.js";
export { staticFlags } from "./policies/flags/source.js";
export type { IdempotencySnapshot } from "./policies/idempotency/server.js";
export type { RateLimitSnapshot } from "./policies/rate-limit/rate-limit.js";
export type { RetrySnapshot } from "./policies/retry/client-policy.js";
export type { ThrottlePolicySnapshot, ThrottlesSnapshot } from "./policies/throttle/client.js";
export { explain } from "./telemetry/explain.js";
export type { Weir, WeirOptions, WeirSnapshot } from "./weir.js";
export { createWeir } from "./weir.js";
