/** A place in a {@link PriorityQueue}. It stays valid, and useless, after the item has left. */
export interface QueueHandle<T> {
  readonly item: T;
  readonly rank: number;
}

/**
 * A queue with two ends: the item to serve next and the item to give up first.
 * Items order by rank, the lowest number first, and inside a rank by arrival. A handle takes an item
 * out of the middle, because callers leave queues too.
 *
 * `first` and `last` take constant time; everything that changes the queue takes O(log n).
 */
export class PriorityQueue<T> {
  // Both heaps hold the same nodes in the same total order, read from opposite ends.
  readonly #front = new Heap<T>("front");
  readonly #back = new Heap<T>("back");
  #arrivals = 0;

  get size(): number {
    return this.#front.size;
  }

  /**
   * Adds an item. The lower the rank, the sooner it is served; infinities are ranks too.
   * Throws a `RangeError` for a rank that is not a number.
   */
  push(item: T, rank: number): QueueHandle<T> {
    // One NaN would compare false with everything and quietly break the order of all the others.
    if (Number.isNaN(rank)) throw new RangeError("rank must be a number, got NaN");
    const node = new Node(item, rank, this.#arrivals++);
    this.#front.add(node);
    this.#back.add(node);
    return node;
  }

  /** The handle of the item to serve next: lowest rank, oldest inside it. */
  first(): QueueHandle<T> | undefined {
    return this.#front.top();
  }

  /** Takes out what {@link first} shows. */
  popFirst(): QueueHandle<T> | undefined {
    return this.#take(this.#front.top());
  }

  /** The handle of the item to give up first: highest rank, newest inside it. */
  last(): QueueHandle<T> | undefined {
    return this.#back.top();
  }

  /** Takes out what {@link last} shows. */
  popLast(): QueueHandle<T> | undefined {
    return this.#take(this.#back.top());
  }

  /** The handles of all items, in no order: a list of its own, so that items may be taken out meanwhile. */
  handles(): readonly QueueHandle<T>[] {
    return this.#front.all();
  }

  /** Takes an item out, wherever it stands. False when it has left already or stands in another queue. */
  remove(handle: QueueHandle<T>): boolean {
    if (!(handle instanceof Node) || !this.#front.has(handle)) return false;
    this.#take(handle);
    return true;
  }

  #take(node: Node<T> | undefined): Node<T> | undefined {
    if (node === undefined) return undefined;
    this.#front.delete(node);
    this.#back.delete(node);
    return node;
  }
}

class Node<T> implements QueueHandle<T> {
  readonly item: T;
  readonly rank: number;
  readonly arrival: number;
  /** Index in the heap of each end, kept by that heap; meaningless once the node has left. */
  front = -1;
  back = -1;

  constructor(item: T, rank: number, arrival: number) {
    this.item = item;
    this.rank = rank;
    this.arrival = arrival;
  }
}

/** The total order of the queue. No two nodes are equal, so the last is exactly the reverse of the first. */
function precedes<T>(a: Node<T>, b: Node<T>): boolean {
  return a.rank === b.rank ? a.arrival < b.arrival : a.rank < b.rank;
}

/** Children per node. Four make the tree half as deep as two, and siblings share a cache line. */
const fanOut = 4;

/** A heap that knows where each of its nodes stands. */
class Heap<T> {
  readonly #end: "front" | "back";
  readonly #nodes: Node<T>[] = [];

  constructor(end: "front" | "back") {
    this.#end = end;
  }

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
    return this.#nodes[node[this.#end]] === node;
  }

  add(node: Node<T>): void {
    this.#nodes.push(node);
    this.#rise(node, this.#nodes.length - 1);
  }

  delete(node: Node<T>): void {
    const index = node[this.#end];
    const filler = this.#nodes.pop();
    if (filler === undefined || filler === node) return;
    // The filler comes from another branch: it may belong above the gap as well as below it.
    if (this.#rise(filler, index) === index) this.#sink(filler, index);
  }

  #outranks(a: Node<T>, b: Node<T>): boolean {
    return this.#end === "front" ? precedes(a, b) : precedes(b, a);
  }

  #place(node: Node<T>, index: number): void {
    this.#nodes[index] = node;
    node[this.#end] = index;
  }

  #rise(node: Node<T>, from: number): number {
    let index = from;
    while (index > 0) {
      const parentIndex = Math.floor((index - 1) / fanOut);
      const parent = this.#nodes[parentIndex];
      if (parent === undefined || !this.#outranks(node, parent)) break;
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
        if (child === undefined || !this.#outranks(child, best)) continue;
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
