import {
  type BuiltPolicy,
  type ControlledName,
  controlledNames,
  type Mode,
  type ModeFromOutside,
  type NamedSnapshot,
  PolicyControl,
} from "../core/control.js";
import type { Gauges } from "../core/gauges.js";
import { InvalidOptionError } from "../core/options.js";
import type { AdmissionPolicySnapshot } from "../policies/admission/server.js";
import { BreakerControl, type BreakersSnapshot } from "../policies/breaker/breakers.js";
import type { BrownoutSnapshot } from "../policies/brownout/brownout.js";
import type { BulkheadsSnapshot } from "../policies/bulkhead/bulkhead.js";
import type { DeadlineGuardSnapshot, FeasibilitySnapshot } from "../policies/deadline/server.js";
import type { FallbackSnapshot } from "../policies/fallback/client-policy.js";
import { FaultsControl, type FaultsSnapshot } from "../policies/faults/faults.js";
import type { IdempotencySnapshot } from "../policies/idempotency/server.js";
import type { RateLimitSnapshot } from "../policies/rate-limit/rate-limit.js";
import type { RetrySnapshot } from "../policies/retry/client-policy.js";
import type { ThrottlesSnapshot } from "../policies/throttle/client.js";
import type { ModeInEnvironment } from "./environment-modes.js";

/** What a policy tells of itself, by its name. */
interface SnapshotOf extends Record<ControlledName, object> {
  readonly retry: RetrySnapshot;
  readonly hedge: RetrySnapshot;
  readonly breaker: BreakersSnapshot;
  readonly rate: RateLimitSnapshot;
  readonly throttle: ThrottlesSnapshot;
  readonly bulkhead: BulkheadsSnapshot;
  readonly "deadline-guard": DeadlineGuardSnapshot;
  readonly feasibility: FeasibilitySnapshot;
  readonly quota: RateLimitSnapshot;
  readonly idempotency: IdempotencySnapshot;
  readonly admission: AdmissionPolicySnapshot;
  readonly fallback: FallbackSnapshot;
  readonly brownout: BrownoutSnapshot;
  readonly faults: FaultsSnapshot;
}

/** The numbers of one policy of this name, and the name of the client, server, method, service or guard that has it. */
export type PolicySnapshot<N extends ControlledName = ControlledName> = NamedSnapshot<
  SnapshotOf[N]
>;

/** The mode and the numbers of all policies of one name. */
interface SnapshotsOf<Snapshot extends object> {
  readonly mode: Mode;
  /** One for each client, server, method, service or guard that has the policy. */
  readonly instances: readonly NamedSnapshot<Snapshot>[];
}

/** Modes and numbers of the policies that are in use, by name. */
export type PolicySnapshots = {
  readonly [N in ControlledName]?: SnapshotsOf<SnapshotOf[N]>;
};

/** What was built for a client, a server or a guard, by the name of the policy. */
export type BuiltByName = {
  readonly [N in ControlledName]?: readonly BuiltPolicy<SnapshotOf[N]>[];
};

/** Controls the policies of one name. */
export type ControlOf<N extends ControlledName> = PolicyControl<SnapshotOf[N]>;

type Controls = { readonly [N in ControlledName]: ControlOf<N> };

/** Controls all policies of a weir at run time. */
export class PolicyControls {
  readonly #controls: Controls = {
    retry: new PolicyControl("retry"),
    hedge: new PolicyControl("hedge"),
    breaker: new BreakerControl(),
    rate: new PolicyControl("rate"),
    throttle: new PolicyControl("throttle"),
    bulkhead: new PolicyControl("bulkhead"),
    "deadline-guard": new PolicyControl("deadline-guard"),
    feasibility: new PolicyControl("feasibility"),
    quota: new PolicyControl("quota"),
    idempotency: new PolicyControl("idempotency"),
    admission: new PolicyControl("admission"),
    fallback: new PolicyControl("fallback"),
    brownout: new PolicyControl("brownout"),
    faults: new FaultsControl(),
  };

  /** @param modes What the environment of the process says of modes. */
  constructor(modes?: ModeInEnvironment) {
    if (modes === undefined) return;
    for (const name of controlledNames) this.#controls[name].startIn((own) => modes(name, own));
  }

  add(built: BuiltByName): void {
    for (const name of controlledNames) this.#add(name, built);
  }

  #add<N extends ControlledName>(name: N, built: BuiltByName): void {
    const control: Controls[N] = this.#controls[name];
    for (const { policy, builtFor } of built[name] ?? []) control.add(policy, builtFor);
  }

  /** @throws InvalidOptionError for a name that is not a {@link ControlledName}. */
  get<N extends ControlledName>(name: N): Controls[N] {
    if (!Object.hasOwn(this.#controls, name)) {
      throw new InvalidOptionError("policy", `one of ${controlledNames.join(", ")}`, name);
    }
    return this.#controls[name];
  }

  /** Gives the policies the modes that flags ask for. */
  follow(fromOutside: ModeFromOutside): void {
    for (const name of controlledNames) this.#controls[name].follow(fromOutside);
  }

  measure(gauges: Gauges): void {
    for (const name of controlledNames) this.#controls[name].measure(gauges);
  }

  snapshot(): PolicySnapshots {
    const controls = this.#controls;
    const policies: { -readonly [N in ControlledName]?: PolicySnapshots[N] } = {
      retry: snapshotsOf(controls.retry),
      hedge: snapshotsOf(controls.hedge),
      breaker: snapshotsOf(controls.breaker),
      rate: snapshotsOf(controls.rate),
      throttle: snapshotsOf(controls.throttle),
      bulkhead: snapshotsOf(controls.bulkhead),
      "deadline-guard": snapshotsOf(controls["deadline-guard"]),
      feasibility: snapshotsOf(controls.feasibility),
      quota: snapshotsOf(controls.quota),
      idempotency: snapshotsOf(controls.idempotency),
      admission: snapshotsOf(controls.admission),
      fallback: snapshotsOf(controls.fallback),
      brownout: snapshotsOf(controls.brownout),
      faults: snapshotsOf(controls.faults),
    };
    for (const name of controlledNames) {
      if (policies[name]?.instances.length === 0) delete policies[name];
    }
    return policies;
  }
}

function snapshotsOf<S extends object>(control: PolicyControl<S>): SnapshotsOf<S> {
  return { mode: control.mode, instances: control.snapshot() };
}
