import type { PolicyName } from "./decision.js";
import { type Mode, modes } from "./mode.js";
import { oneOf } from "./options.js";
import { WeakList } from "./weak-list.js";

/** A policy that can be switched and looked into while it works. */
export interface ControlledPolicy {
  mode: Mode;
  /** Its numbers now, for people and reports; by key where the policy keeps state by key. */
  snapshot(): unknown;
}

/**
 * The hand on one kind of policy: all that a weir has built of it, for whichever client or server, and that is still in
 * use. It holds none of it: a policy goes with the options, clients and calls that it was built for. Switching the mode
 * loses no counters.
 */
export class PolicyControl {
  readonly name: PolicyName;
  readonly #policies = new WeakList<ControlledPolicy>();
  #mode: Mode | undefined;
  #firstMode: Mode | undefined;

  constructor(name: PolicyName) {
    this.name = name;
  }

  /** Takes a policy in. A mode that was set through this control before holds for it as well. */
  add(policy: ControlledPolicy): void {
    if (this.#mode !== undefined) policy.mode = this.#mode;
    this.#firstMode ??= policy.mode;
    this.#policies.add(policy);
  }

  /** The mode that was set here last; before that, the mode the first policy was built with. */
  get mode(): Mode {
    return this.#mode ?? this.#firstMode ?? "enforce";
  }

  /** @throws InvalidOptionError for anything but `enforce`, `observe` and `off`. */
  set mode(mode: Mode) {
    this.#mode = oneOf(`policy("${this.name}").mode`, mode, modes);
    for (const policy of this.#policies) policy.mode = this.#mode;
  }

  /** One entry for each policy that is in use, in the order of building. */
  snapshot(): readonly unknown[] {
    return [...this.#policies].map((policy) => policy.snapshot());
  }
}
