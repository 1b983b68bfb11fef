export type { EnvironmentOptions } from "./grpc/environment.js";
export { context } from "./grpc/server/context.js";
export type { QuotaCall, ServerPolicyOptions } from "./grpc/server/policy.js";
export type { PrioritizedCall, PriorityCounts, PriorityOptions } from "./grpc/server/priority.js";
export { googleCriticality } from "./grpc/server/priority.js";
export type { ServerPolicy } from "./pipeline/server.js";
export type { AdmissionSnapshot } from "./policies/admission/admission.js";
export type {
  AdmissionOptions,
  PoolOptions,
  QueueOptions,
  StreamPoolOptions,
} from "./policies/admission/options.js";
export type {
  AdmissionPolicySnapshot,
  FairnessOptions,
  ServerAdmissionOptions,
} from "./policies/admission/server.js";
export { admission } from "./policies/admission/server.js";
export type { AdmissionThresholds } from "./policies/admission/shedders.js";
export type {
  BrownoutOptions,
  BrownoutSnapshot,
  OptionalWork,
  OptionalWorkSnapshot,
} from "./policies/brownout/brownout.js";
export type { BrownoutCall, BrownoutPolicyOptions } from "./policies/brownout/server.js";
export { brownout } from "./policies/brownout/server.js";
export type {
  BulkheadPartitionSnapshot,
  BulkheadSnapshot,
  BulkheadsSnapshot,
} from "./policies/bulkhead/bulkhead.js";
export type { ServerBulkheadOptions } from "./policies/bulkhead/server.js";
export { bulkhead } from "./policies/bulkhead/server.js";
export type {
  DeadlineGuardOptions,
  DeadlineGuardSnapshot,
  FeasibilitySnapshot,
} from "./policies/deadline/server.js";
export { deadlineGuard } from "./policies/deadline/server.js";
export type { FaultsSnapshot } from "./policies/faults/faults.js";
export type {
  DropFault,
  FaultOptions,
  FaultRate,
  LatencyFault,
  MidStreamFault,
  ResetFault,
  StatusFault,
} from "./policies/faults/options.js";
export type { FaultInbound, ServerFaultsOptions } from "./policies/faults/server.js";
export { faults } from "./policies/faults/server.js";
export type { KillSwitchOptions } from "./policies/flags/options.js";
export { killSwitch } from "./policies/flags/server.js";
export type { IdempotencyKeysSnapshot } from "./policies/idempotency/keys.js";
export type { MemoryStoreSnapshot } from "./policies/idempotency/memory-store.js";
export type {
  IdempotencyPolicyOptions,
  IdempotencySnapshot,
} from "./policies/idempotency/server.js";
export { idempotency } from "./policies/idempotency/server.js";
export type {
  AnsweredStatus,
  IdempotentMethodOptions,
  ServerIdempotencyOptions,
} from "./policies/idempotency/server-options.js";
export type {
  ClaimAnswer,
  Eventually,
  IdempotencyStore,
  KeyClaim,
} from "./policies/idempotency/store.js";
export type { Limit } from "./policies/limits/limit.js";
export type { LimitOptions } from "./policies/limits/options.js";
export type { PressureSnapshot } from "./policies/pressure/meter.js";
export type {
  PressureOptions,
  PressureRange,
  ProcessReader,
  Readings,
} from "./policies/pressure/options.js";
export type { RateLimitOptions } from "./policies/rate-limit/options.js";
export type { RateLimitSnapshot } from "./policies/rate-limit/rate-limit.js";
export type { QuotaOptions } from "./policies/rate-limit/server.js";
export { quota } from "./policies/rate-limit/server.js";
export type { QuotaAnswer, QuotaShort, QuotaStore } from "./policies/rate-limit/store.js";
export type { TokenRate } from "./policies/rate-limit/token-bucket.js";
