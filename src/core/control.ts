import type { PolicyName, RefusalReason } from "./decision.js";
import type { Gauges } from "./gauges.js";
import { oneOf } from "./options.js";
import type { Outcome } from "./permit.js";
import { WeakList } from "./weak-list.js";

/**
 * How a policy takes part. It can be switched while calls run, and counters are kept.
 *
 * - `enforce`: the policy acts.
 * - `observe`: it records what it would have done, on its own state, and changes nothing.
 * - `off`: it does nothing.
 */
export type Mode = "enforce" | "observe" | "off";

export const modes = ["enforce", "observe", "off"] as const satisfies readonly Mode[];

/** A policy that can be switched and inspected at run time. */
export interface ControlledPolicy<Snapshot extends object = object> {
  mode: Mode;
  /** Its numbers now, for people and reports; by key where it keeps state by key. */
  snapshot(): Snapshot;
  /** Tells what it measures. Absent: nothing. */
  measure?(gauges: Gauges): void;
}

/** One policy that was built. */
export interface BuiltPolicy<Snapshot extends object = object> {
  readonly policy: ControlledPolicy<Snapshot>;
  /** The name of the client, server, method, service or guard that it was built for. */
  readonly builtFor: string;
}

/** Several policies of one client, server or guard. */
export function allBuiltFor<P extends object>(
  builtFor: string,
  policies: readonly (P | undefined)[],
): readonly { readonly policy: P; readonly builtFor: string }[] {
  return policies.flatMap((policy) => (policy === undefined ? [] : [{ policy, builtFor }]));
}

/** A snapshot of one policy, with the name of what it was built for. */
export type NamedSnapshot<Snapshot extends object> = Snapshot & {
  /**
   * The name of the client, server or guard. A client without a name is called `client`, and a server `server`; what a
   * client has for a method or service is called by its path (`pkg.Service/Method`), behind the name of the client.
   */
  readonly name: string;
};

/**
 * Controls one kind of policy at run time: all policies of that kind which a weir has built, for any client or server.
 * It refers to them weakly, so a policy is collected with the clients, servers and calls that it was built for.
 */
export class PolicyControl<Snapshot extends object = object> {
  readonly name: PolicyName;
  readonly #policies = new WeakList<ControlledPolicy<Snapshot>>();
  readonly #builtFor = new WeakMap<ControlledPolicy<Snapshot>, string>();
  #mode: Mode | undefined;
  #firstMode: Mode | undefined;

  constructor(name: PolicyName) {
    this.name = name;
  }

  /** Adds a policy, with the name of what it was built for. It gets the mode that was set through this control, if any was. */
  add(policy: ControlledPolicy<Snapshot>, builtFor: string): void {
    if (this.#mode !== undefined) policy.mode = this.#mode;
    this.#firstMode ??= policy.mode;
    this.#policies.add(policy);
    this.#builtFor.set(policy, builtFor);
  }

  /** The mode that was set here last, or else the mode that the first policy was built with. */
  get mode(): Mode {
    return this.#mode ?? this.#firstMode ?? "enforce";
  }

  /** @throws InvalidOptionError for anything but `enforce`, `observe` and `off`. */
  set mode(mode: Mode) {
    this.#mode = oneOf(`policy("${this.name}").mode`, mode, modes);
    for (const policy of this.#policies) policy.mode = this.#mode;
  }

  /** Collects what the policies measure that are not off. */
  measure(gauges: Gauges): void {
    for (const policy of this.#policies) if (policy.mode !== "off") policy.measure?.(gauges);
  }

  /** One entry for each policy that is in use, in the order in which they were built. */
  snapshot(): readonly NamedSnapshot<Snapshot>[] {
    return [...this.#policies].map((policy) => ({
      name: this.#builtFor.get(policy) ?? "",
      ...policy.snapshot(),
    }));
  }
}

/** Calls that a policy in `observe` would have refused for one reason, and how they ended instead. All only grow. */
export interface ObservedRefusals {
  readonly refused: number;
  readonly success: number;
  readonly failure: number;
  /** The caller left, or another policy refused them, so how they would have ended is not known. */
  readonly ignored: number;
}

/** By policy and reason. A call that has not ended yet is counted in `refused` only. */
export type ObservedReport = Readonly<
  Partial<Record<PolicyName, Readonly<Partial<Record<RefusalReason, ObservedRefusals>>>>>
>;

type Counts = { -readonly [K in keyof ObservedRefusals]: number };

/**
 * What policies in `observe` would have done, and what that would have cost. Of the calls that they would have refused,
 * those that succeeded would have been lost, and those that failed would have been spared.
 */
export class ObserveReport {
  readonly #counts = new Map<PolicyName, Map<RefusalReason, Counts>>();

  refused(policy: PolicyName, reason: RefusalReason): void {
    this.#of(policy, reason).refused += 1;
  }

  ended(policy: PolicyName, reason: RefusalReason, outcome: Outcome): void {
    this.#of(policy, reason)[outcome] += 1;
  }

  snapshot(): ObservedReport {
    const report: Partial<Record<PolicyName, Partial<Record<RefusalReason, ObservedRefusals>>>> =
      {};
    for (const [policy, reasons] of this.#counts) {
      const byReason: Partial<Record<RefusalReason, ObservedRefusals>> = {};
      for (const [reason, counts] of reasons) byReason[reason] = { ...counts };
      report[policy] = byReason;
    }
    return report;
  }

  #of(policy: PolicyName, reason: RefusalReason): Counts {
    let reasons = this.#counts.get(policy);
    if (reasons === undefined) {
      reasons = new Map();
      this.#counts.set(policy, reasons);
    }
    let counts = reasons.get(reason);
    if (counts === undefined) {
      counts = { refused: 0, success: 0, failure: 0, ignored: 0 };
      reasons.set(reason, counts);
    }
    return counts;
  }
}
