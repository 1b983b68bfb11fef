/** The length from which on the list is searched for collected items. */
const leastSweep = 32;

/**
 * Items in the order in which they were added, without keeping them alive: collected items are no longer in the list. Their
 * places are freed now and then, as items are added.
 */
export class WeakList<T extends object> implements Iterable<T> {
  #refs: WeakRef<T>[] = [];
  /** The length at which it is searched next: twice the items that were alive the last time. */
  #sweepAt = leastSweep;

  add(item: T): void {
    if (this.#refs.length >= this.#sweepAt) {
      this.#refs = this.#refs.filter((ref) => ref.deref() !== undefined);
      this.#sweepAt = Math.max(leastSweep, 2 * this.#refs.length);
    }
    this.#refs.push(new WeakRef(item));
  }

  delete(item: T): void {
    this.#refs = this.#refs.filter((ref) => ref.deref() !== item);
  }

  /** The items that are alive. */
  *[Symbol.iterator](): Iterator<T> {
    for (const ref of this.#refs) {
      const item = ref.deref();
      if (item !== undefined) yield item;
    }
  }
}
