/** A task that waits for its virtual time. */
export interface QueuedTask {
  readonly at: number;
  /** Breaks ties: of two tasks for the same time, the one scheduled first runs first. */
  readonly order: number;
  readonly ref: boolean;
  /** Gone once the task ran or was cancelled. */
  task: (() => void) | undefined;
}

function before(a: QueuedTask, b: QueuedTask): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** Tasks ordered by time, then by arrival: a binary heap in which cancelled tasks are skipped. */
export class TaskQueue {
  #heap: QueuedTask[] = [];
  #order = 0;
  #refs = 0;
  #unrefs = 0;

  get refs(): number {
    return this.#refs;
  }

  get unrefs(): number {
    return this.#unrefs;
  }

  add(at: number, ref: boolean, task: () => void): QueuedTask {
    const entry: QueuedTask = { at, order: this.#order++, ref, task };
    this.#count(ref, 1);
    this.#heap.push(entry);
    this.#up(this.#heap.length - 1);
    return entry;
  }

  cancel(entry: QueuedTask): void {
    if (entry.task === undefined) return;
    entry.task = undefined;
    this.#count(entry.ref, -1);
    // Nearly every deadline is cancelled long before it is due. Left in place, they would make the
    // heap as large as the number of calls ever made.
    if (this.#heap.length > 64 && this.#heap.length > 2 * (this.#refs + this.#unrefs)) {
      this.#heap = this.#heap.filter((kept) => kept.task !== undefined);
      for (let i = (this.#heap.length >> 1) - 1; i >= 0; i--) this.#down(i);
    }
  }

  /** When the next task is due; Infinity when there is none, or none that time can reach. */
  nextAt(): number {
    let first = this.#heap[0];
    while (first !== undefined && first.task === undefined) {
      this.#removeFirst();
      first = this.#heap[0];
    }
    return first?.at ?? Number.POSITIVE_INFINITY;
  }

  /** Takes the next task out, due or not. */
  take(): (() => void) | undefined {
    this.nextAt();
    const first = this.#heap[0];
    if (first === undefined) return undefined;
    this.#removeFirst();
    this.#count(first.ref, -1);
    const { task } = first;
    first.task = undefined;
    return task;
  }

  #count(ref: boolean, by: number): void {
    if (ref) this.#refs += by;
    else this.#unrefs += by;
  }

  #removeFirst(): void {
    const last = this.#heap.pop();
    if (last === undefined || this.#heap.length === 0) return;
    this.#heap[0] = last;
    this.#down(0);
  }

  #up(from: number): void {
    const heap = this.#heap;
    const moving = heap[from];
    if (moving === undefined) return;
    let index = from;
    while (index > 0) {
      const above = (index - 1) >> 1;
      const parent = heap[above];
      if (parent === undefined || !before(moving, parent)) break;
      heap[index] = parent;
      index = above;
    }
    heap[index] = moving;
  }

  #down(from: number): void {
    const heap = this.#heap;
    const moving = heap[from];
    if (moving === undefined) return;
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
      if (!before(child, moving)) break;
      heap[index] = child;
      index = below;
    }
    heap[index] = moving;
  }
}
