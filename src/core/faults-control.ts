import { Faults } from "./faults.js";
import { finiteNumber } from "./options.js";
import { type ControlledPolicy, PolicyControl } from "./policy-control.js";
import { WeakList } from "./weak-list.js";

/** The hand on all faults of a weir: their mode, and how much of their rates holds. */
export class FaultsControl extends PolicyControl {
  readonly #faults = new WeakList<Faults>();
  #scale = 1;

  constructor() {
    super("faults");
  }

  override add(policy: ControlledPolicy): void {
    super.add(policy);
    if (!(policy instanceof Faults)) return;
    policy.scale = this.#scale;
    this.#faults.add(policy);
  }

  /**
   * Factor of all rates, 0 to 1. 0 stops injecting, 1 is what the options say. It holds for clients and servers that
   * are built later too. @defaultValue 1
   */
  get scale(): number {
    return this.#scale;
  }

  /** @throws InvalidOptionError for anything but a number from 0 to 1. */
  set scale(scale: number) {
    this.#scale = finiteNumber('policy("faults").scale', scale, 0, 1);
    for (const faults of this.#faults) faults.scale = this.#scale;
  }
}
