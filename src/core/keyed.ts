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
  readonly #inUse: ((state: T) => boolean) | undefined;
  /** States that would have been forgotten while they were in use. */
  readonly #kept = new Map<string, T>();
  /** The key that was asked for last: it is asked for next as a rule, and can not have been forgotten. */
  #last: { readonly key: string; readonly state: T } | undefined;

  /**
   * @param inUse Says of a state that it must not be forgotten yet: somebody waits in it, or holds something of it that a
   *   state made anew would hand out once more. Such states are kept beyond `maxKeys`, until they are found idle.
   */
  constructor(make: (key: string) => T, maxKeys = defaultMaxKeys, inUse?: (state: T) => boolean) {
    this.#make = make;
    this.#inUse = inUse;
    this.#states = new LRUCache<string, T>({
      // With a `max`, the cache would take the memory for all of them at once.
      maxSize: maxKeys,
      sizeCalculation: () => 1,
      ...(inUse === undefined
        ? {}
        : { dispose: (state, key, reason) => reason === "evict" && this.#evicted(key, state) }),
    });
  }

  get(key: string): T {
    if (this.#last?.key === key) return this.#last.state;
    const state = this.#find(key);
    this.#last = { key, state };
    return state;
  }

  /** The states there are now, most recently used first: a list of its own, so that keys may be used meanwhile. */
  entries(): readonly [string, T][] {
    // Those that are kept now: looking at one may put it behind the others.
    const kept = [...this.#kept.keys()];
    for (const key of kept) this.#look(key);
    return [...this.#states.entries(), ...this.#kept];
  }

  #find(key: string): T {
    const present = this.#states.get(key);
    if (present !== undefined) return present;
    const kept = this.#kept.get(key);
    if (kept !== undefined) this.#kept.delete(key);
    const made = kept ?? this.#make(key);
    this.#states.set(key, made);
    return made;
  }

  /** Each state that is kept makes room for itself: two of the oldest are looked at for it. */
  #evicted(key: string, state: T): void {
    this.#kept.set(key, state);
    let looks = 3;
    for (const oldKey of this.#kept.keys()) {
      if (looks === 0) break;
      looks -= 1;
      this.#look(oldKey);
    }
    this.#look(key);
  }

  /** Lets go of a kept state that is idle, and puts one that is not behind the others. */
  #look(key: string): void {
    const state = this.#kept.get(key);
    this.#kept.delete(key);
    if (state !== undefined && this.#inUse?.(state) === true) this.#kept.set(key, state);
  }
}

/** Keys longer than this are shortened: what a caller sends must not decide how much memory a key takes. */
const maxLength = 256;
const keptLength = 200;

/** The key under which state is kept for a name: the name itself, or a short stand-in for a long one. */
export function boundedKey(name: string): string {
  if (name.length <= maxLength) return name;
  // The beginning alone would take tokens with a common header for one. Joined and not added: a sum of strings
  // would keep the whole name alive.
  return [name.slice(0, keptLength), name.length, hash(name, 0), hash(name, 1)].join("~");
}

/** FNV-1a over 16-bit units: to tell names apart, not to withstand somebody who looks for two that collide. */
function hash(text: string, seed: number): string {
  let state = (0x811c9dc5 ^ seed) >>> 0;
  for (let index = 0; index < text.length; index += 1) {
    state = Math.imul(state ^ text.charCodeAt(index), 0x01000193);
  }
  return (state >>> 0).toString(16);
}
