/** A place in a {@link PriorityQueue}. It stays valid, and useless, after the item has left. */
export interface QueueHandle<T> {
  readonly item: T;
  readonly rank: number;
}

/**
 * Items in the order in which they are served: by rank, the lowest number first, and inside a rank by arrival. A
 * handle takes an item out of the middle, because callers leave queues too.
 *
 * `first` takes constant time; everything that changes the queue takes O(log n).
 */
export class PriorityQueue<T> {
  readonly #heap = new Heap<T>();
  #arrivals = 0;

  get size(): number {
    return this.#heap.size;
  }

  /**
   * Adds an item. The lower the rank, the sooner it is served; infinities are ranks too.
   * Throws a `RangeError` for a rank that is not a number.
   */
  push(item: T, rank: number): QueueHandle<T> {
    // One NaN would compare false with everything and quietly break the order of all the others.
    if (Number.isNaN(rank)) throw new RangeError("rank must be a number, got NaN");
    const node = new Node(item, rank, this.#arrivals++);
    this.#heap.add(node);
    return node;
  }

  /** The handle of the item to serve next: lowest rank, oldest inside it. */
  first(): QueueHandle<T> | undefined {
    return this.#heap.top();
  }

  /** Takes out what {@link first} shows. */
  popFirst(): QueueHandle<T> | undefined {
    return this.#take(this.#heap.top());
  }

  /** The handles of all items, in no order: a list of its own, so that items may be taken out meanwhile. */
  handles(): readonly QueueHandle<T>[] {
    return this.#heap.all();
  }

  /** Takes an item out, wherever it stands. False when it has left already or stands in another queue. */
  remove(handle: QueueHandle<T>): boolean {
    if (!(handle instanceof Node) || !this.#heap.has(handle)) return false;
    this.#take(handle);
    return true;
  }

  #take(node: Node<T> | undefined): Node<T> | undefined {
    if (node === undefined) return undefined;
    this.#heap.delete(node);
    return node;
  }
}

class Node<T> implements QueueHandle<T> {
  readonly item: T;
  readonly rank: number;
  readonly arrival: number;
  /** Its place in the heap, kept by that; meaningless once the node has left. */
  index = -1;

  constructor(item: T, rank: number, arrival: number) {
    this.item = item;
    this.rank = rank;
    this.arrival = arrival;
  }
}

/** The total order of the queue: no two nodes are equal. */
function precedes<T>(a: Node<T>, b: Node<T>): boolean {
  return a.rank === b.rank ? a.arrival < b.arrival : a.rank < b.rank;
}

/** Children per node. Four make the tree half as deep as two, and siblings share a cache line. */
const fanOut = 4;

/** A heap that knows where each of its nodes stands. */
class Heap<T> {
  readonly #nodes: Node<T>[] = [];

  get size(): number {
    return this.#nodes.length;
  }

  top(): Node<T> | undefined {
    return this.#nodes[0];
  }

  all(): readonly Node<T>[] {
    return [...this.#nodes];
  }

  has(node: Node<T>): boolean {
    return this.#nodes[node.index] === node;
  }

  add(node: Node<T>): void {
    this.#nodes.push(node);
    this.#rise(node, this.#nodes.length - 1);
  }

  delete(node: Node<T>): void {
    const index = node.index;
    const filler = this.#nodes.pop();
    if (filler === undefined || filler === node) return;
    // The filler comes from another branch: it may belong above the gap as well as below it.
    if (this.#rise(filler, index) === index) this.#sink(filler, index);
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
