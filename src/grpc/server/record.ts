import type { Metadata, ServerMethodDefinition } from "@grpc/grpc-js";
import { currentInbound, InboundCall } from "../context/inbound-call.js";
import { toMonotonic } from "../deadline.js";
import type { Environment } from "../environment.js";
import { callKind, type ServerCall } from "../types.js";
import type { PriorityReader } from "./priority.js";

export type ServerMethod = ServerMethodDefinition<unknown, unknown>;

/** The record of an inbound call before its metadata has arrived. */
export function newInbound(
  method: ServerMethod,
  call: ServerCall,
  { clock, report, onDecision, observed }: Environment,
): InboundCall {
  const startedAtMs = clock.now();
  const deadlineMs = toMonotonic(call.getDeadline(), clock, startedAtMs);
  return new InboundCall({
    method: method.path,
    kind: callKind(method),
    caller: call,
    clock,
    report,
    onDecision,
    observed,
    startedAtMs,
    deadlineMs: deadlineMs ?? Number.POSITIVE_INFINITY,
  });
}

/** Reads the metadata of the request into the record. Malformed values count as absent. */
export function readRequest(
  inbound: InboundCall,
  metadata: Metadata,
  call: ServerCall,
  priority: PriorityReader,
): void {
  priority.read(inbound, metadata, call);
  inbound.metadata = metadata;
}

/**
 * The record that a context interceptor nearer the wire has made for the call with this metadata. In a process that calls
 * itself, the current record may be that of the handler that is the caller.
 */
export function presentInbound(metadata: Metadata): InboundCall | undefined {
  const present = currentInbound();
  return present?.metadata === metadata ? present : undefined;
}

/** The record of a call for a policy: that of a context interceptor, or a new one where the policy stands alone. */
export function inboundFor(
  method: ServerMethod,
  call: ServerCall,
  metadata: Metadata,
  environment: Environment,
  priority: PriorityReader,
): InboundCall {
  const present = presentInbound(metadata);
  if (present !== undefined) return present;
  const inbound = newInbound(method, call, environment);
  readRequest(inbound, metadata, call, priority);
  return inbound;
}
