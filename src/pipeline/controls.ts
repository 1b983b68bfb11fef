import {
  type BuiltPolicy,
  type ControlledName,
  controlledNames,
  type Mode,
  type ModeFromOutside,
  type NamedSnapshot,
  type OnUpdate,
  PolicyControl,
} from "../core/control.js";
import type { Gauges } from "../core/gauges.js";
import { InvalidOptionError } from "../core/options.js";
import { Succession } from "../core/succession.js";
import type {
  AdmissionPolicySnapshot,
  ServerAdmissionOptions,
} from "../policies/admission/server.js";
import { BreakerControl, type BreakersSnapshot } from "../policies/breaker/breakers.js";
import type { BreakerOptions } from "../policies/breaker/options.js";
import type { BrownoutOptions, BrownoutSnapshot } from "../policies/brownout/brownout.js";
import type { BulkheadOptions, BulkheadsSnapshot } from "../policies/bulkhead/bulkhead.js";
import type { FeasibilityOptions } from "../policies/deadline/feasibility.js";
import type {
  DeadlineGuardOptions,
  DeadlineGuardSnapshot,
  FeasibilitySnapshot,
} from "../policies/deadline/server.js";
import type { FallbackOptions, FallbackSnapshot } from "../policies/fallback/client-policy.js";
import { FaultsControl, type FaultsSnapshot } from "../policies/faults/faults.js";
import type { FaultOptions } from "../policies/faults/options.js";
import type { IdempotencySnapshot } from "../policies/idempotency/server.js";
import type { ServerIdempotencyOptions } from "../policies/idempotency/server-options.js";
import type { RateLimitOptions } from "../policies/rate-limit/options.js";
import type { RateLimitSnapshot } from "../policies/rate-limit/rate-limit.js";
import type { RetrySnapshot } from "../policies/retry/client-policy.js";
import type { HedgeOptions, RetryOptions } from "../policies/retry/options.js";
import type { ThrottlesSnapshot } from "../policies/throttle/client.js";
import type { ThrottleOptions } from "../policies/throttle/options.js";
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

/**
 * The numbers of one policy of this name, and the name of the client, server, method, service or guard that has it.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/modes.md
 */
export type PolicySnapshot<N extends ControlledName = ControlledName> = NamedSnapshot<
  SnapshotOf[N]
>;

/** The mode and the numbers of all policies of one name. */
interface SnapshotsOf<Snapshot extends object> {
  readonly mode: Mode;
  /** One for each client, server, method, service or guard that has the policy. */
  readonly instances: readonly NamedSnapshot<Snapshot>[];
}

/**
 * Modes and numbers of the policies that are in use, by name.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/modes.md
 */
export type PolicySnapshots = {
  readonly [N in ControlledName]?: SnapshotsOf<SnapshotOf[N]>;
};

/** What was built for a client, a server or a guard, by the name of the policy. */
export type BuiltByName = {
  readonly [N in ControlledName]?: readonly BuiltPolicy<SnapshotOf[N]>[];
};

/** What was built from newer options of a client, a server or a guard, and is not used yet. */
export interface PreparedPolicies {
  /** What is in use. */
  readonly before: BuiltByName;
  readonly built: BuiltByName;
  /** Carries what is in use over to it. */
  apply(succession: Succession): void;
}

/** Controls the policies of one name. */
export type ControlOf<N extends ControlledName> = PolicyControl<SnapshotOf[N], OptionsOf[N]>;

/** The options of a policy that can be changed at run time, by its name. */
interface OptionsOf extends Record<ControlledName, object> {
  readonly retry: RetryOptions;
  readonly hedge: HedgeOptions;
  readonly breaker: BreakerOptions;
  readonly rate: RateLimitOptions;
  readonly throttle: ThrottleOptions;
  readonly bulkhead: BulkheadOptions;
  readonly "deadline-guard": DeadlineGuardOptions;
  readonly feasibility: FeasibilityOptions;
  readonly quota: RateLimitOptions;
  readonly idempotency: ServerIdempotencyOptions;
  readonly admission: ServerAdmissionOptions;
  readonly fallback: FallbackOptions;
  readonly brownout: BrownoutOptions;
  readonly faults: FaultOptions;
}

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

  updateBy(onUpdate: OnUpdate): void {
    for (const name of controlledNames) this.#controls[name].updateBy(onUpdate);
  }

  add(built: BuiltByName): void {
    for (const name of controlledNames) this.#add(name, built);
  }

  /** Carries policies over to newer options: some go on with these, some are new, and some are gone. */
  apply(prepared: PreparedPolicies): void {
    const succession = new Succession();
    prepared.apply(succession);
    for (const name of controlledNames) this.#succeed(name, prepared, succession);
  }

  #succeed<N extends ControlledName>(
    name: N,
    { before, built }: PreparedPolicies,
    succession: Succession,
  ): void {
    const control: Controls[N] = this.#controls[name];
    const gone = new Set((before[name] ?? []).map(({ policy }) => policy));
    for (const { policy: made, builtFor } of built[name] ?? []) {
      const { policy, mode } = succession.of(made);
      if (gone.delete(policy)) control.restart(policy, builtFor, mode);
      else control.add(policy, builtFor);
    }
    for (const policy of gone) control.remove(policy);
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

function snapshotsOf<S extends object>(
  control: Pick<PolicyControl<S>, "mode" | "snapshot">,
): SnapshotsOf<S> {
  return { mode: control.mode, instances: control.snapshot() };
}
