import type { Mode } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import type { Refusal } from "../../core/permit.js";
import type { Flags } from "./flags.js";

/**
 * Refuse calls of methods that a flag switches off. They have no mode, and give out no permits: what has passed them goes on
 * to its end.
 */
export interface KillGates<C> {
  /** Stands first: what is switched off costs next to nothing, and no other policy learns from it. */
  readonly first: Gate<C>;
  /** Stands behind the last queue, for calls whose method was switched off while they waited. */
  readonly behindQueues: Gate<C>;
}

/** @param exempt Whether a call is never refused. */
export function killGates<C>(
  flags: Flags,
  methodOf: (call: C) => string,
  exempt: (method: string) => boolean,
): KillGates<C> {
  const modeFor = (call: C): Mode => (exempt(methodOf(call)) ? "off" : "enforce");
  const enter = (call: C): Refusal | undefined => flags.refusalOf(methodOf(call));
  const gate = { policy: "flags", neverQueues: true, enter } as const;
  return {
    first: { ...gate, modeFor },
    behindQueues: { ...gate, modeFor: (call) => (flags.killing ? modeFor(call) : "off") },
  };
}
