import type { ControlledPolicy, Mode } from "./control.js";

/**
 * Carries policies over to newer options. What is built from these is checked as a whole before anything changes; then each new
 * policy that takes the place of one that is in use hands that its options, and is dropped. So permits, queues, windows and
 * states stay where they are.
 */
export class Succession {
  readonly #stands = new Map<ControlledPolicy, ControlledPolicy>();
  readonly #modes = new Map<ControlledPolicy, Mode>();

  /**
   * The policy that stands in a place from now on: the one that stood there, with the options of the fresh one; or the fresh one,
   * where none stood, or where that one stands somewhere else. A fresh policy that has several places stands in each.
   */
  carry<P extends ControlledPolicy>(before: P | undefined, fresh: P | undefined): P | undefined {
    if (fresh === undefined) return undefined;
    // The types of the keys and values are pairs, which a map cannot say.
    const known = this.#stands.get(fresh) as P | undefined;
    if (known !== undefined) return known;
    const free = before !== undefined && !this.#modes.has(before);
    const stands = free ? before : fresh;
    if (free) before.reconfigure(fresh);
    this.#stands.set(fresh, stands);
    this.#modes.set(stands, fresh.mode);
    return stands;
  }

  /** The policy that stands for a fresh one, and the mode of its options. */
  of<P extends ControlledPolicy>(fresh: P): { readonly policy: P; readonly mode: Mode } {
    const policy = (this.#stands.get(fresh) as P | undefined) ?? fresh;
    return { policy, mode: fresh.mode };
  }
}
