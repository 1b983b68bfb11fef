import { LRUCache } from "lru-cache";

/** How many keys a policy keeps state for, unless told otherwise. */
const defaultMaxKeys = 1_000;

/**
 * State by key, made when it is first asked for and bounded in number: of more keys than that, those
 * used longest ago are forgotten. What such state has handed out stays valid; a key that comes back
 * starts anew.
 */
export class Keyed<T extends object> {
  readonly #states: LRUCache<string, T>;
  readonly #make: (key: string) => T;
  /** The key that was asked for last: it is asked for next as a rule, and can not have been forgotten. */
  #last: { readonly key: string; readonly state: T } | undefined;

  constructor(make: (key: string) => T, maxKeys = defaultMaxKeys) {
    this.#states = new LRUCache({ max: maxKeys });
    this.#make = make;
  }

  get(key: string): T {
    if (this.#last?.key === key) return this.#last.state;
    const state = this.#find(key);
    this.#last = { key, state };
    return state;
  }

  /** The states there are now, most recently used first: a list of its own, so that keys may be used meanwhile. */
  entries(): readonly [string, T][] {
    return [...this.#states.entries()];
  }

  #find(key: string): T {
    const present = this.#states.get(key);
    if (present !== undefined) return present;
    const made = this.#make(key);
    this.#states.set(key, made);
    return made;
  }
}
