import { type ControlledPolicy, type Mode, PolicyControl } from "../core/control.js";
import type { PolicyName } from "../core/decision.js";
import { InvalidOptionError } from "../core/options.js";
import { BreakerControl } from "../policies/breaker/breakers.js";
import { FaultsControl } from "../policies/faults/faults.js";

/** The policies that have a mode. Deadlines and timeouts hold always: a call without them is another call. */
const controlled = [
  "retry",
  "hedge",
  "breaker",
  "rate",
  "throttle",
  "bulkhead",
  "deadline-guard",
  "feasibility",
  "quota",
  "admission",
  "fallback",
  "brownout",
  "faults",
] as const satisfies readonly PolicyName[];

/** A policy that can be switched and looked into. */
export type ControlledName = (typeof controlled)[number];

/** A policy that was built, and its name. */
export interface BuiltPolicy {
  readonly name: PolicyName;
  readonly policy: ControlledPolicy;
}

/** The numbers of policies by their names; each has one entry for each that was built. */
export type PolicySnapshots = Readonly<
  Partial<Record<PolicyName, { readonly mode: Mode; readonly instances: readonly unknown[] }>>
>;

/** The hands on all kinds of policies. */
export class PolicyControls {
  readonly #controls = new Map<PolicyName, PolicyControl>();

  constructor() {
    for (const name of controlled) this.#controls.set(name, controlOf(name));
  }

  add(built: readonly BuiltPolicy[]): void {
    for (const { name, policy } of built) this.#controls.get(name)?.add(policy);
  }

  /** @throws InvalidOptionError for a name that is none of a controlled policy. */
  get(name: ControlledName): PolicyControl {
    const control = this.#controls.get(name);
    if (control === undefined) {
      throw new InvalidOptionError("policy", `one of ${controlled.join(", ")}`, name);
    }
    return control;
  }

  snapshot(): PolicySnapshots {
    const policies: Partial<Record<PolicyName, { mode: Mode; instances: readonly unknown[] }>> = {};
    for (const [name, control] of this.#controls) {
      const instances = control.snapshot();
      if (instances.length > 0) policies[name] = { mode: control.mode, instances };
    }
    return policies;
  }
}

function controlOf(name: ControlledName): PolicyControl {
  if (name === "breaker") return new BreakerControl();
  if (name === "faults") return new FaultsControl();
  return new PolicyControl(name);
}
