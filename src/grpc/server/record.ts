import type { Metadata, ServerMethodDefinition } from "@grpc/grpc-js";
import { currentInbound, InboundCall } from "../context/inbound-call.js";
import { toMonotonic } from "../deadline.js";
import type { Environment } from "../environment.js";
import { callKind, type ServerCall } from "../types.js";
import type { PriorityReader } from "./priority.js";

export type ServerMethod = ServerMethodDefinition<unknown, unknown>;

/** A new record of an inbound call whose metadata arrive now. Malformed values in them count as absent. */
export function inboundOf(
  method: ServerMethod,
  call: ServerCall,
  metadata: Metadata,
  environment: Environment,
  priority: PriorityReader,
): InboundCall {
  const { clock, report, observed } = environment;
  const startedAtMs = clock.now();
  const deadlineMs = toMonotonic(call.getDeadline(), clock, startedAtMs);
  const inbound = new InboundCall({
    method: method.path,
    kind: callKind(method),
    caller: call,
    clock,
    report,
    told: environment,
    observed,
    startedAtMs,
    deadlineMs: deadlineMs ?? Number.POSITIVE_INFINITY,
  });
  priority.read(inbound, metadata, call);
  inbound.metadata = metadata;
  return inbound;
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
  return presentInbound(metadata) ?? inboundOf(method, call, metadata, environment, priority);
}
