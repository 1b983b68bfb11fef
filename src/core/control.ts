import type { PolicyName, RefusalReason } from "./decision.js";
import type { Gauges } from "./gauges.js";
import { InvalidOptionError, oneOf, readOptions } from "./options.js";
import type { Outcome } from "./permit.js";
import { WeakList } from "./weak-list.js";

/**
 * How a policy takes part. It can be switched while calls run, and counters are kept.
 *
 * - `enforce`: the policy acts.
 * - `observe`: it records what it would have done, on its own state, and changes nothing.
 * - `off`: it does nothing.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/modes.md
 */
export type Mode = "enforce" | "observe" | "off";

export const modes = ["enforce", "observe", "off"] as const satisfies readonly Mode[];

/** The policies that have a mode. Deadlines and timeouts have none: without them a call is a different one. */
export const controlledNames = [
  "retry",
  "hedge",
  "breaker",
  "rate",
  "throttle",
  "bulkhead",
  "deadline-guard",
  "feasibility",
  "quota",
  "idempotency",
  "admission",
  "fallback",
  "brownout",
  "faults",
] as const satisfies readonly PolicyName[];

/**
 * The name of a policy that has a mode and a snapshot.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/modes.md
 */
export type ControlledName = (typeof controlledNames)[number];

/** A policy that can be switched and inspected at run time. */
export interface ControlledPolicy<Snapshot extends object = object> {
  mode: Mode;
  /** Its numbers now, for people and reports; by key where it keeps state by key. */
  snapshot(): Snapshot;
  /**
   * Takes the options of a policy that was built from newer ones and is not used. Its own state stays, and calls that run keep
   * what they hold.
   */
  reconfigure(fresh: this): void;
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

/**
 * A snapshot of one policy, with the name of what it was built for.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/modes.md
 */
export type NamedSnapshot<Snapshot extends object> = Snapshot & {
  /**
   * The name of the client, server or guard. A client without a name is called `client`, and a server `server`; what a
   * client has for a method or service is called by its path (`pkg.Service/Method`), behind the name of the client.
   */
  readonly name: string;
};

/**
 * The mode that something outside of the program, such as a flag, gives the policies of a name now; `undefined` for none.
 *
 * @param builtFor What the policy was built for. Without it, the mode of all policies of the name is asked for.
 */
export type ModeFromOutside = (policy: ControlledName, builtFor?: string) => Mode | undefined;

/** Is called when options are set at run time; `undefined` takes them back. */
export type OnUpdate = (
  policy: ControlledName,
  options: Readonly<Record<string, unknown>> | undefined,
  of: string | undefined,
) => void;

/**
 * Controls one kind of policy at run time: all policies of that kind which a weir has built, for any client or server.
 * It refers to them weakly, so a policy is collected with the clients, servers and calls that it was built for.
 *
 * The mode of a policy is that of a flag, as long as one is set; else that which was set here; else that of the environment of
 * the process; else that of its options.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/modes.md
 */
export class PolicyControl<Snapshot extends object = object, Options extends object = object> {
  readonly name: ControlledName;
  readonly #policies = new WeakList<ControlledPolicy<Snapshot>>();
  /** What each policy was built for, and the mode that it begins with: of the environment, or of its options. */
  readonly #built = new WeakMap<
    ControlledPolicy<Snapshot>,
    { readonly builtFor: string; readonly mode: Mode }
  >();
  #onUpdate: OnUpdate | undefined;
  #mode: Mode | undefined;
  #firstMode: Mode | undefined;
  #fromOutside: ModeFromOutside | undefined;
  #inEnvironment: ((own: Mode) => Mode) | undefined;

  constructor(name: ControlledName) {
    this.name = name;
  }

  /** @internal The mode that the environment of the process gives a policy, in place of that of its options. */
  startIn(environment: (own: Mode) => Mode): void {
    this.#inEnvironment = environment;
  }

  /** Adds a policy, with the name of what it was built for. It gets the mode of a flag, or that which was set here, if there is one. */
  add(policy: ControlledPolicy<Snapshot>, builtFor: string): void {
    const mode = this.#inEnvironment?.(policy.mode) ?? policy.mode;
    this.#built.set(policy, { builtFor, mode });
    this.#firstMode ??= this.#mode ?? mode;
    this.#policies.add(policy);
    this.#set(policy);
  }

  /** @internal Called for each update. */
  updateBy(onUpdate: OnUpdate): void {
    this.#onUpdate = onUpdate;
  }

  /**
   * Changes options while calls run. They win over those of schema, data and code, also for what is built later, until `revert`
   * takes them back. What is set for one client, service or method wins over what is set for more. Policies keep what they know;
   * one that is off stays off. Nothing changes if an option is wrong.
   *
   * @param options The options to change; the others stay. The mode is a property of its own.
   * @param of The client, server, method, service or guard, as snapshots name it. @defaultValue all that have the policy
   * @throws InvalidOptionError naming the option, its rule and what it was given; also for a name that has no such policy.
   */
  update(options: Partial<Options>, of?: string): void {
    const path = `policy("${this.name}").update`;
    const given = readOptions(path, options);
    if ("mode" in given) {
      throw new InvalidOptionError(
        `${path}.mode`,
        `set by policy("${this.name}").mode`,
        given.mode,
      );
    }
    const names = [...this.#policies].map((policy) => this.#built.get(policy)?.builtFor);
    if (names.length === 0 || (of !== undefined && !names.includes(of))) {
      const rule = `one of those that have the policy (${names.join(", ") || "none"})`;
      throw new InvalidOptionError(`${path}.of`, rule, of);
    }
    this.#onUpdate?.(this.name, given, of);
  }

  /** Takes back what `update` has set: for one client, server, method, service or guard, or without `of` everything. */
  revert(of?: string): void {
    this.#onUpdate?.(this.name, undefined, of);
  }

  /** @internal A policy that it has goes on with other options, and begins in the mode that these have. */
  restart(policy: ControlledPolicy<Snapshot>, builtFor: string, mode: Mode): void {
    this.#built.set(policy, { builtFor, mode: this.#inEnvironment?.(mode) ?? mode });
    this.#set(policy);
  }

  /** @internal Leaves out a policy that no later call passes. */
  remove(policy: ControlledPolicy<Snapshot>): void {
    this.#policies.delete(policy);
  }

  /** The mode that a flag gives all policies of the name; else the one that was set here last, or that the first policy was built with. */
  get mode(): Mode {
    return this.#fromOutside?.(this.name) ?? this.#mode ?? this.#firstMode ?? "enforce";
  }

  /** @throws InvalidOptionError for anything but `enforce`, `observe` and `off`. */
  set mode(mode: Mode) {
    this.#mode = oneOf(`policy("${this.name}").mode`, mode, modes);
    this.#setAll();
  }

  /** @internal The modes that flags give the policies from now on. Called again after each change. */
  follow(fromOutside: ModeFromOutside): void {
    this.#fromOutside = fromOutside;
    this.#setAll();
  }

  #setAll(): void {
    for (const policy of this.#policies) this.#set(policy);
  }

  #set(policy: ControlledPolicy<Snapshot>): void {
    const built = this.#built.get(policy);
    if (built === undefined) return;
    const mode = this.#fromOutside?.(this.name, built.builtFor) ?? this.#mode ?? built.mode;
    if (policy.mode !== mode) policy.mode = mode;
  }

  /** Collects what the policies measure that are not off. */
  measure(gauges: Gauges): void {
    for (const policy of this.#policies) if (policy.mode !== "off") policy.measure?.(gauges);
  }

  /** One entry for each policy that is in use, in the order in which they were built. */
  snapshot(): readonly NamedSnapshot<Snapshot>[] {
    return [...this.#policies].map((policy) => ({
      name: this.#built.get(policy)?.builtFor ?? "",
      ...policy.snapshot(),
    }));
  }
}

/**
 * Calls that a policy in `observe` would have refused for one reason, and how they ended instead. All only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/modes.md
 */
export interface ObservedRefusals {
  readonly refused: number;
  readonly success: number;
  readonly failure: number;
  /** The caller left, or another policy refused them, so how they would have ended is not known. */
  readonly ignored: number;
}

/**
 * By policy and reason. A call that has not ended yet is counted in `refused` only.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/modes.md
 */
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
