import type { PolicyName } from "../core/decision.js";
import { InvalidOptionError } from "../core/options.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import type { GuardSpans } from "../grpc/guard-spans.js";
import type { Surroundings } from "../grpc/surroundings.js";
import { Guard, type GuardSnapshot } from "./guard.js";
import { buildGuard } from "./guard-build.js";
import type { GuardOptions } from "./guard-options.js";

/** Takes in the policies of a guard that was built. */
export type ControlPolicies = (
  built: readonly { readonly name: PolicyName; readonly policy: ControlledPolicy }[],
) => void;

/** The guards of a weir, by name. */
export class Guards {
  readonly #guards = new Map<
    string,
    { readonly guard: Guard<unknown>; readonly options: object }
  >();
  readonly #surroundings: Surroundings;
  readonly #control: ControlPolicies;
  readonly #spans: GuardSpans | undefined;

  constructor(surroundings: Surroundings, control: ControlPolicies, spans: GuardSpans | undefined) {
    this.#surroundings = surroundings;
    this.#control = control;
    this.#spans = spans;
  }

  /**
   * Builds the guard of a name, or finds it: a name stands for one guard.
   *
   * @throws InvalidOptionError for an option out of range; for a name that has a guard already with other options;
   *   and without options, for a name that has none.
   */
  get<F>(name: string, options: GuardOptions<F> | undefined): Guard<F> {
    if (typeof name !== "string" || name === "") {
      throw new InvalidOptionError("guard.name", "a name", name);
    }
    const known = this.#guards.get(name);
    if (known !== undefined) {
      if (options !== undefined && options !== known.options) {
        const rule = "absent: this guard has been built, with other options";
        throw new InvalidOptionError(`guard("${name}")`, rule, options);
      }
      // What its fallback answers is known where it was built; here, whoever asks for it says so.
      return known.guard as Guard<F>;
    }
    if (options === undefined) {
      throw new InvalidOptionError(`guard("${name}")`, "built with options first", options);
    }
    const built = buildGuard(name, options, this.#surroundings);
    const guard = new Guard(built, this.#spans);
    this.#control(built.policies);
    this.#guards.set(name, { guard, options });
    return guard;
  }

  snapshot(): readonly GuardSnapshot[] {
    return [...this.#guards.values()].map(({ guard }) => guard.snapshot());
  }
}
