import { LRUCache } from "lru-cache";

/** How many keys a policy keeps state for by default. */
const defaultMaxKeys = 1_000;

/**
 * State by key, made on first use and bounded in number: beyond `maxKeys`, the key that was used longest ago is forgotten
 * and starts anew when it comes back. Permits and the like that forgotten state has given out stay valid.
 */
export class Keyed<T extends object> {
  #states: LRUCache<string, T>;
  #maxKeys: number;
  readonly #make: (key: string) => T;
  readonly #inUse: ((state: T) => boolean) | undefined;
  /** States beyond `maxKeys` that are in use. */
  readonly #kept = new Map<string, T>();
  /** The key that was used last. It is usually the next one too, and the one that cannot have been forgotten. */
  #last: { readonly key: string; readonly state: T } | undefined;

  /**
   * @param inUse True for state that must not be forgotten yet: a call waits in it, or holds something of it that new state
   *   would hand out a second time. Such state is kept beyond `maxKeys` until it is found idle.
   */
  constructor(make: (key: string) => T, maxKeys = defaultMaxKeys, inUse?: (state: T) => boolean) {
    this.#make = make;
    this.#inUse = inUse;
    this.#maxKeys = maxKeys;
    this.#states = this.#newStates(maxKeys);
  }

  /** Changes how many keys there may be. With fewer, those used longest ago are forgotten. */
  resize(maxKeys: number): void {
    if (maxKeys === this.#maxKeys) return;
    const before = [...this.#states.entries()];
    this.#maxKeys = maxKeys;
    this.#last = undefined;
    this.#states = this.#newStates(maxKeys);
    // The most recently used key comes first, and is set last.
    for (const [key, state] of before.toReversed()) this.#states.set(key, state);
  }

  get(key: string): T {
    if (this.#last?.key === key) return this.#last.state;
    const state = this.#find(key);
    this.#last = { key, state };
    return state;
  }

  /** All keys and states now, the most recently used first: a copy, so that keys may be used meanwhile. */
  entries(): readonly [string, T][] {
    // A copy, because `#look` changes the map.
    const kept = [...this.#kept.keys()];
    for (const key of kept) this.#look(key);
    return [...this.#states.entries(), ...this.#kept];
  }

  #newStates(maxKeys: number): LRUCache<string, T> {
    return new LRUCache<string, T>({
      // `maxSize`, because with `max` the cache allocates the memory for all keys at once.
      maxSize: maxKeys,
      sizeCalculation: () => 1,
      ...(this.#inUse === undefined
        ? {}
        : { dispose: (state, key, reason) => reason === "evict" && this.#evicted(key, state) }),
    });
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

  /** Keeps a state that is in use. The oldest ones are looked at as well, so that idle ones do not pile up. */
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

  /** Forgets a kept state that is idle, and puts one that is in use at the end. */
  #look(key: string): void {
    const state = this.#kept.get(key);
    this.#kept.delete(key);
    if (state !== undefined && this.#inUse?.(state) === true) this.#kept.set(key, state);
  }
}

/** Longer keys are shortened, so that a caller cannot decide how much memory a key takes. In UTF-16 units. */
const maxLength = 256;
const keptLength = 200;

/** The key for a name: the name itself, or its beginning, length and hash for a long one. */
export function boundedKey(name: string): string {
  if (name.length <= maxLength) return name;
  // The hash, because long names such as tokens often begin alike. `join`, because V8 keeps the whole name in memory for a
  // string that is made by `+`.
  return [name.slice(0, keptLength), name.length, hash(name, 0), hash(name, 1)].join("~");
}

/** FNV-1a over UTF-16 units. It tells names apart; it does not resist an attacker who looks for collisions. */
function hash(text: string, seed: number): string {
  let state = 0x811c9dc5 ^ seed;
  for (let index = 0; index < text.length; index += 1) {
    state = Math.imul(state ^ text.charCodeAt(index), 0x01000193);
  }
  return (state >>> 0).toString(16);
}
