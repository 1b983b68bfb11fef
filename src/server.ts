export type { AdmissionSnapshot } from "./core/admission.js";
export type { AdmissionOptions, AdmissionThresholds } from "./core/admission-options.js";
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
export type { SurroundingsOptions } from "./grpc/surroundings.js";
export { admission } from "./server/admission.js";
export type { PriorityOptions } from "./server/context.js";
export { context } from "./server/context.js";
export type { DeadlineGuardOptions } from "./server/deadline-guard.js";
export { deadlineGuard } from "./server/deadline-guard.js";
export type { FaultInbound, ServerFaultsOptions } from "./server/faults.js";
export { faults } from "./server/faults.js";
export type { ServerPolicyOptions } from "./server/gates.js";
export type { ServerPolicy } from "./server/server-policy.js";
