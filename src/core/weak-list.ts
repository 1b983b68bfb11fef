/** How long a list gets before it is looked through for the first time. */
const leastSweep = 32;

/**
 * Things in the order they came in, for as long as somebody else holds them: what is collected is in the list no more.
 * The list takes a few words for each, and gives them back as it goes on.
 */
export class WeakList<T extends object> implements Iterable<T> {
  #refs: WeakRef<T>[] = [];
  /** It is looked through when it has become twice as long as what lived the last time. */
  #sweepAt = leastSweep;

  add(item: T): void {
    if (this.#refs.length >= this.#sweepAt) {
      this.#refs = this.#refs.filter((ref) => ref.deref() !== undefined);
      this.#sweepAt = Math.max(leastSweep, 2 * this.#refs.length);
    }
    this.#refs.push(new WeakRef(item));
  }

  /** What lives. */
  *[Symbol.iterator](): Iterator<T> {
    for (const ref of this.#refs) {
      const item = ref.deref();
      if (item !== undefined) yield item;
    }
  }
}
