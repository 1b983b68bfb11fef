/** The place of an item in a {@link PriorityQueue}. After the item has left, it does nothing. */
export interface QueueHandle<T> {
  readonly item: T;
  readonly rank: number;
}

/** Children of a node. With four the tree is half as deep as with two, and siblings share a cache line. */
const fanOut = 4;

/**
 * Items in the order in which they are served: by rank, the lowest first, and inside a rank by arrival. An item can also be
 * taken out of the middle by its handle, because callers leave queues.
 *
 * `first` takes constant time; all that changes the queue takes O(log n).
 */
export class PriorityQueue<T> {
  /** A heap, in which each node knows its index. */
  readonly #nodes: Node<T>[] = [];
  #arrivals = 0;

  get size(): number {
    return this.#nodes.length;
  }

  /**
   * Adds an item.
   *
   * @param rank The lower, the sooner it is served. May be infinite.
   * @throws RangeError when the rank is NaN.
   */
  push(item: T, rank: number): QueueHandle<T> {
    // NaN compares false with everything, and would silently break the order of all other items.
    if (Number.isNaN(rank)) throw new RangeError("rank must be a number, got NaN");
    const node = new Node(item, rank, this.#arrivals++);
    this.#nodes.push(node);
    this.#rise(node, this.#nodes.length - 1);
    return node;
  }

  /** The handle of the item that is next. */
  first(): QueueHandle<T> | undefined {
    return this.#nodes[0];
  }

  /** How many items of a rank there are. Looks at all of them. */
  countOf(rank: number): number {
    let count = 0;
    for (const node of this.#nodes) if (node.rank === rank) count += 1;
    return count;
  }

  /** The handles of all items, in no order: a copy, so that items may be taken out meanwhile. */
  handles(): readonly QueueHandle<T>[] {
    return [...this.#nodes];
  }

  /** Takes an item out, wherever it stands. False when it has left already, or is in another queue. */
  remove(handle: QueueHandle<T>): boolean {
    if (!(handle instanceof Node) || this.#nodes[handle.index] !== handle) return false;
    const { index } = handle;
    const filler = this.#nodes.pop();
    if (filler === undefined || filler === handle) return true;
    // The filler comes from another branch, so it may belong above the gap or below it.
    if (this.#rise(filler, index) === index) this.#sink(filler, index);
    return true;
  }

  #place(node: Node<T>, index: number): void {
    this.#nodes[index] = node;
    node.index = index;
  }

  #rise(node: Node<T>, from: number): number {
    let index = from;
    while (index > 0) {
      const parentIndex = Math.floor((index - 1) / fanOut);
      const parent = this.#nodes[parentIndex];
      if (parent === undefined || !precedes(node, parent)) break;
      this.#place(parent, index);
      index = parentIndex;
    }
    this.#place(node, index);
    return index;
  }

  #sink(node: Node<T>, from: number): void {
    let index = from;
    for (;;) {
      let best = node;
      let bestIndex = index;
      const firstChild = index * fanOut + 1;
      const end = Math.min(firstChild + fanOut, this.#nodes.length);
      for (let childIndex = firstChild; childIndex < end; childIndex += 1) {
        const child = this.#nodes[childIndex];
        if (child === undefined || !precedes(child, best)) continue;
        best = child;
        bestIndex = childIndex;
      }
      if (bestIndex === index) break;
      this.#place(best, index);
      index = bestIndex;
    }
    this.#place(node, index);
  }
}

class Node<T> implements QueueHandle<T> {
  readonly item: T;
  readonly rank: number;
  readonly arrival: number;
  /** Its index in the heap. Meaningless once the node has left. */
  index = -1;

  constructor(item: T, rank: number, arrival: number) {
    this.item = item;
    this.rank = rank;
    this.arrival = arrival;
  }
}

/** Whether `a` is served before `b`. No two nodes are equal. */
function precedes<T>(a: Node<T>, b: Node<T>): boolean {
  return a.rank === b.rank ? a.arrival < b.arrival : a.rank < b.rank;
}
