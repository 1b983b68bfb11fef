import { type BuiltPolicy, type Mode, PolicyControl } from "../core/control.js";
import type { PolicyName } from "../core/decision.js";
import type { Gauges } from "../core/gauges.js";
import { InvalidOptionError } from "../core/options.js";
import { BreakerControl } from "../policies/breaker/breakers.js";
import { FaultsControl } from "../policies/faults/faults.js";

/** The policies that have a mode. Deadlines and timeouts have none: without them a call is a different one. */
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

/** The name of a policy that has a mode and a snapshot. */
export type ControlledName = (typeof controlled)[number];

/** Modes and numbers of policies by name, with an instance for each client, server or method that has the policy. */
export type PolicySnapshots = Readonly<
  Partial<Record<PolicyName, { readonly mode: Mode; readonly instances: readonly unknown[] }>>
>;

/** Controls all policies of a weir at run time. */
export class PolicyControls {
  readonly #controls = new Map<PolicyName, PolicyControl>();

  constructor() {
    for (const name of controlled) this.#controls.set(name, controlOf(name));
  }

  add(built: readonly BuiltPolicy[]): void {
    for (const { name, policy } of built) this.#controls.get(name)?.add(policy);
  }

  /** @throws InvalidOptionError for a name that is not a {@link ControlledName}. */
  get(name: ControlledName): PolicyControl {
    const control = this.#controls.get(name);
    if (control === undefined) {
      throw new InvalidOptionError("policy", `one of ${controlled.join(", ")}`, name);
    }
    return control;
  }

  measure(gauges: Gauges): void {
    for (const control of this.#controls.values()) control.measure(gauges);
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
