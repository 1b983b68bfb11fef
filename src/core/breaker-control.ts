import {
  type BreakerOverride,
  BreakerSet,
  type BreakerStateChange,
  type BreakersSnapshot,
} from "./breaker-set.js";
import { InvalidOptionError } from "./options.js";
import { type ControlledPolicy, PolicyControl } from "./policy-control.js";
import type { Observer } from "./user-code.js";
import { WeakList } from "./weak-list.js";

/**
 * The hand on the breakers of a weir. `key` is a breaker's own, as `snapshot` and events name it; it need not
 * have been used yet. Without one, a word holds for all keys, those to come included, and takes back what was
 * said of single ones.
 *
 * What is set by hand holds within the mode: breakers that are `off` refuse nothing, and those that observe
 * refuse nobody, forced open or not.
 */
export class BreakerControl extends PolicyControl {
  readonly #sets = new WeakList<BreakerSet>();
  readonly #observers = new Set<Observer<BreakerStateChange>>();
  /** What was said by hand, for breakers that are built later. */
  readonly #said = new Map<string | undefined, BreakerOverride>();

  constructor() {
    super("breaker");
  }

  override add(policy: ControlledPolicy): void {
    super.add(policy);
    if (!(policy instanceof BreakerSet)) return;
    this.#sets.add(policy);
    for (const observer of this.#observers) policy.observers.add(observer);
    for (const [key, to] of this.#said) policy.override(to, key);
  }

  /** Refuses every call, with BREAKER_OPEN and no word of when to come back, until it is released. */
  forceOpen(key?: string): void {
    this.#set("open", key);
  }

  /** Lets every call through, and goes on counting, until it is released. */
  forceClose(key?: string): void {
    this.#set("closed", key);
  }

  /** Lets every call through and counts nothing, as with the mode `off`, until it is released. */
  disable(key?: string): void {
    this.#set("disabled", key);
  }

  /** Opens and closes as ever, and refuses nobody, as with the mode `observe`, until it is released. */
  observe(key?: string): void {
    this.#set("observed", key);
  }

  /**
   * Back to normal. A breaker that was forced open begins with probes; one that was forced closed begins to
   * count anew.
   */
  release(key?: string): void {
    this.#set("none", key);
  }

  /**
   * Tells of each change of state, of whichever client, after it happened. What the observer throws is reported.
   *
   * @returns A function that ends it.
   * @throws InvalidOptionError for what is no function.
   */
  onStateChange(observer: Observer<BreakerStateChange>): () => void {
    if (typeof observer !== "function") {
      throw new InvalidOptionError('policy("breaker").onStateChange', "a function", observer);
    }
    // A function of its own, so that one that is handed in twice is told twice, and ends once.
    const own = observer.bind(undefined);
    this.#observers.add(own);
    for (const set of this.#sets) set.observers.add(own);
    return () => {
      this.#observers.delete(own);
      for (const set of this.#sets) set.observers.delete(own);
    };
  }

  /** One entry for each set of breakers that is in use, in the order of building. */
  override snapshot(): readonly BreakersSnapshot[] {
    return [...this.#sets].map((set) => set.snapshot());
  }

  /**
   * Takes over what `snapshot` told, here or in another process, as JSON or not. Build the clients first, in the
   * same order. Rests that were not over go on for as long as they had left. Nothing is taken over unless all
   * of it can be read.
   *
   * @throws InvalidOptionError naming the field, its rule and what stands there.
   */
  restore(snapshot: unknown): void {
    const path = 'policy("breaker").restore';
    const sets = [...this.#sets];
    const built = sets.length;
    if (!Array.isArray(snapshot) || snapshot.length !== built) {
      const rule = `an array with one entry for each set of breakers in use (${built})`;
      throw new InvalidOptionError(path, rule, snapshot);
    }
    const entries: readonly unknown[] = snapshot;
    const steps = sets.map((set, at) => set.prepareRestore(`${path}[${at}]`, entries[at]));
    for (const step of steps) step();
  }

  #set(to: BreakerOverride, key: string | undefined): void {
    if (key !== undefined && typeof key !== "string") {
      throw new InvalidOptionError('policy("breaker"): key', "a text, or absent for all", key);
    }
    for (const set of this.#sets) set.override(to, key);
    if (key === undefined) this.#said.clear();
    // What holds for all need not be kept of each: keys that come and go would pile up.
    if (to === (this.#said.get(undefined) ?? "none")) this.#said.delete(key);
    else this.#said.set(key, to);
  }
}
