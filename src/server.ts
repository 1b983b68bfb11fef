export type { AdmissionSnapshot } from "./core/admission-call.js";
export type { AdmissionOptions, PoolOptions, StreamPoolOptions } from "./core/admission-options.js";
export type { BrownoutSnapshot, OptionalWorkSnapshot } from "./core/brownout.js";
export type { BrownoutOptions, OptionalWork } from "./core/brownout-options.js";
export type { BulkheadPartitionSnapshot, BulkheadSnapshot } from "./core/bulkhead.js";
export type { FaultsSnapshot } from "./core/faults.js";
export type {
  DropFault,
  FaultOptions,
  FaultRate,
  LatencyFault,
  MidStreamFault,
  ResetFault,
  StatusFault,
} from "./core/faults-options.js";
export type { Limit } from "./core/limit.js";
export type { LimitOptions } from "./core/limit-options.js";
export type { AdmissionThresholds } from "./core/load-thresholds.js";
export type { PressureSnapshot } from "./core/pressure-meter.js";
export type { PressureOptions, PressureRange } from "./core/pressure-options.js";
export type { ProcessReader, Readings } from "./core/process-readings.js";
export type { QueueOptions } from "./core/queue-options.js";
export type { QuotaAnswer, QuotaStore } from "./core/quota-store.js";
export type { RateLimitSnapshot } from "./core/rate-limit.js";
export type { RateLimitOptions } from "./core/rate-options.js";
export type { TokenRate } from "./core/token-bucket.js";
export type { SurroundingsOptions } from "./grpc/surroundings.js";
export type { AdmissionPolicySnapshot } from "./server/admission.js";
export { admission } from "./server/admission.js";
export type { BrownoutCall, BrownoutPolicyOptions } from "./server/brownout.js";
export { brownout } from "./server/brownout.js";
export type { ServerBulkheadOptions } from "./server/bulkhead.js";
export { bulkhead } from "./server/bulkhead.js";
export { context } from "./server/context.js";
export type { DeadlineGuardOptions, DeadlineGuardSnapshot } from "./server/deadline-guard.js";
export { deadlineGuard } from "./server/deadline-guard.js";
export type { FaultInbound, ServerFaultsOptions } from "./server/faults.js";
export { faults } from "./server/faults.js";
export type { ServerPolicyOptions } from "./server/gates.js";
export type { LearnedGuardSnapshot } from "./server/learned-guard.js";
export type { PrioritizedCall, PriorityCounts, PriorityOptions } from "./server/priority.js";
export { googleCriticality } from "./server/priority.js";
export type { QuotaCall, QuotaOptions } from "./server/quota.js";
export { quota } from "./server/quota.js";
export type { ServerPolicy } from "./server/server-policy.js";
