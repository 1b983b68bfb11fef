/** What stands in a {@link TimeQueue}. */
export interface Timed {
  /** When it is due, in milliseconds. Change it only while the entry is in no queue. */
  at: number;
  /** Of two entries for the same time, the one with the lower number comes first. */
  order: number;
  /** For the queue alone: where the entry stands. -1 while it is in no queue. */
  place: number;
}

function before(a: Timed, b: Timed): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** Entries in the order of their times: a binary heap from which any entry can be removed. */
export class TimeQueue<T extends Timed> {
  readonly #heap: T[] = [];

  get size(): number {
    return this.#heap.length;
  }

  /** The entry that is due first. */
  get first(): T | undefined {
    return this.#heap[0];
  }

  /** When the first entry is due; `Infinity` without entries. */
  get nextAt(): number {
    return this.#heap[0]?.at ?? Number.POSITIVE_INFINITY;
  }

  add(entry: T): void {
    this.#heap.push(entry);
    this.#up(entry, this.#heap.length - 1);
  }

  /** Removes an entry. Nothing happens if it is not in the queue. */
  remove(entry: T): void {
    const { place } = entry;
    if (place < 0) return;
    entry.place = -1;
    const last = this.#heap.pop();
    if (last === undefined || last === entry) return;
    this.#up(last, place);
    this.#down(last, last.place);
  }

  clear(): void {
    for (const entry of this.#heap) entry.place = -1;
    this.#heap.length = 0;
  }

  #up(entry: T, from: number): void {
    const heap = this.#heap;
    let index = from;
    while (index > 0) {
      const above = (index - 1) >> 1;
      const parent = heap[above];
      if (parent === undefined || !before(entry, parent)) break;
      heap[index] = parent;
      parent.place = index;
      index = above;
    }
    heap[index] = entry;
    entry.place = index;
  }

  #down(entry: T, from: number): void {
    const heap = this.#heap;
    let index = from;
    for (;;) {
      let below = 2 * index + 1;
      let child = heap[below];
      if (child === undefined) break;
      const other = heap[below + 1];
      if (other !== undefined && before(other, child)) {
        below += 1;
        child = other;
      }
      if (!before(child, entry)) break;
      heap[index] = child;
      child.place = index;
      index = below;
    }
    heap[index] = entry;
    entry.place = index;
  }
}
