import { PriorityQueue, type QueueHandle } from "../../core/queue/priority-queue.js";
import { atMost, defaultPartition, guarantees, type PartitionShares } from "./partition-options.js";

/** Something that can wait in the queue of a semaphore. */
export interface Candidate {
  /**
   * It has been granted what it waited for, and has to release it. Called from inside the release that made room. When it
   * throws, the others are served first, then the error is thrown on; what was granted stays taken.
   */
  grant(): void;
}

/** The size of a semaphore. */
export interface PermitOptions {
  /** Permits that may be out at once. */
  readonly permits: number;
  /** Candidates that may wait; 0 for no queue. */
  readonly maxQueued: number;
}

/**
 * A counting semaphore with a bounded queue, whose permits are shared by named partitions. A candidate takes as many
 * permits as its weight. A partition may borrow permits that the others do not use. Who is next:
 *
 * - Inside a partition: the lowest rank, and inside a rank the oldest. It is never overtaken: when too few permits are free
 *   for its weight, all behind it wait.
 * - Among the first of each partition: those that fit into the guarantee of their partition, before all that would borrow.
 *   While one of them waits, no partition borrows.
 * - Then the lowest rank and the oldest of the others. When too few permits are free for its weight, those that come free
 *   are kept for it.
 *
 * The queue is shared by the same shares, and its places are not lent: otherwise one partition could fill it.
 *
 * It knows neither time nor reasons for refusals; the bulkhead adds both.
 */
export class Partitions<C extends Candidate> {
  /** The partition of candidates that name none, or one that does not exist. */
  readonly unnamed: Partition;
  readonly #all: Partition[] = [];
  readonly #byName = new Map<string, Partition>();
  readonly #queues: PriorityQueue<PartitionTicket<C>>[] = [];
  #shares: PartitionShares;
  #maxQueued: number;
  /** Places in the queue that belong to no partition, and how many of them are taken. */
  #commonPlaces = 0;
  #commonTaken = 0;
  #permits: number;
  #running = 0;
  #queued = 0;
  #arrivals = 0;
  #serving = false;

  constructor(options: PermitOptions, shares: PartitionShares) {
    this.#permits = options.permits;
    this.#maxQueued = options.maxQueued;
    this.#shares = shares;
    for (const name of shares.keys()) this.#add(name);
    const unnamed = this.#byName.get(defaultPartition);
    if (unnamed === undefined) throw new Error("there is no default partition");
    this.unnamed = unnamed;
    this.#allot();
  }

  get permits(): number {
    return this.#permits;
  }

  get maxQueued(): number {
    return this.#maxQueued;
  }

  /** Permits that are out. More than `permits` only after `resize` to fewer. */
  get running(): number {
    return this.#running;
  }

  /** Candidates that wait, each counted once, whatever its weight. */
  get queued(): number {
    return this.#queued;
  }

  /** How many candidates of a rank wait. */
  waiting(rank: number): number {
    return this.#queues.reduce((sum, queue) => sum + queue.countOf(rank), 0);
  }

  get all(): readonly Partition[] {
    return this.#all;
  }

  /** The partition of that name, or the default one when there is none. */
  named(name: string): Partition {
    return this.#byName.get(name) ?? this.unnamed;
  }

  /**
   * Takes permits if they are free and no candidate that waits comes first. That may grant permits to another candidate:
   * one that waited behind a candidate of this partition, which now has to wait for permits of its own partition.
   */
  tryAcquire(partition: Partition, rank: number, weight: number): boolean {
    if (this.#running + weight > this.#permits) return false;
    if (partition.running + weight > partition.most) return false;
    const nobodyWaits = this.#queued === 0;
    if (!nobodyWaits && !this.#passes(partition, rank, weight)) return false;
    partition.running += weight;
    this.#running += weight;
    if (!nobodyWaits) this.#serve();
    return true;
  }

  /**
   * Queues a candidate that `tryAcquire` refused; `undefined` when its partition has no place left in the queue. Where
   * permits are free after all, they are granted before this returns. A weight above `partition.most` would wait for ever:
   * the caller refuses it.
   */
  enqueue(
    partition: Partition,
    rank: number,
    weight: number,
    candidate: C,
  ): PartitionTicket<C> | undefined {
    const takesCommon = partition.queued >= partition.places;
    if (takesCommon && this.#commonTaken >= this.#commonPlaces) return undefined;
    if (partition.queued >= partition.mostPlaces) return undefined;
    const ticket = new PartitionTicket(this, partition, candidate, rank, weight, this.#arrivals++);
    ticket.handle = this.#queueOf(partition).push(ticket, rank);
    partition.queued += 1;
    this.#queued += 1;
    if (takesCommon) this.#commonTaken += 1;
    this.#serve();
    return ticket;
  }

  /** Gives permits back. Throws an `Error` when the partition holds fewer: it was released twice. */
  release(partition: Partition, weight: number): void {
    if (partition.running < weight) throw new Error("released a permit that nobody holds");
    partition.running -= weight;
    this.#running -= weight;
    if (this.#queued > 0) this.#serve();
  }

  /**
   * Changes the number of permits. Permits that are out stay out; while they are more than the new number, nothing is
   * granted. Takes the candidates that are too heavy now out of the queue, and returns them.
   */
  resize(permits: number): readonly C[] {
    return this.reconfigure({ permits, maxQueued: this.#maxQueued }, this.#shares);
  }

  /**
   * Changes the number of permits, the length of the queue and the shares, as {@link resize} does. Candidates that wait keep their
   * places. A partition that is gone keeps its running calls and those that wait, and guarantees nothing.
   */
  reconfigure({ permits, maxQueued }: PermitOptions, shares: PartitionShares): readonly C[] {
    this.#permits = permits;
    this.#maxQueued = maxQueued;
    this.#shares = shares;
    this.#byName.clear();
    for (const name of shares.keys()) {
      const known = this.#all.find((partition) => partition.name === name);
      if (known === undefined) this.#add(name);
      else this.#byName.set(name, known);
    }
    this.#allot();
    const outgrown: C[] = [];
    for (const queue of this.#queues) {
      for (const { item } of queue.handles()) {
        if (item.weight > item.partition.most && this.#remove(item)) outgrown.push(item.candidate);
      }
    }
    this.#serve();
    return outgrown;
  }

  /** Takes all candidates out of the queue, and returns them, partition by partition, the next one first. */
  clear(): readonly C[] {
    const all: C[] = [];
    for (const queue of this.#queues) {
      for (let best = queue.first(); best !== undefined; best = queue.first()) {
        this.#remove(best.item);
        all.push(best.item.candidate);
      }
    }
    return all;
  }

  /** For tickets: takes a candidate out that does not wait any longer. */
  leave(ticket: PartitionTicket<C>): boolean {
    if (!this.#remove(ticket)) return false;
    // Permits may have been kept for it.
    if (this.#queued > 0) this.#serve();
    return true;
  }

  #add(name: string): void {
    const partition = new Partition(name, this.#all.length);
    this.#all.push(partition);
    this.#byName.set(name, partition);
    this.#queues.push(new PriorityQueue());
  }

  #allot(): void {
    const own = guarantees(this.#shares, this.#permits);
    const places = guarantees(this.#shares, this.#maxQueued);
    this.#commonPlaces = this.#maxQueued;
    this.#commonTaken = 0;
    for (const partition of this.#all) {
      const { name } = partition;
      const maxShare = this.#shares.get(name)?.maxShare ?? 1;
      partition.guaranteed = own.get(name) ?? 0;
      partition.most = atMost(maxShare, this.#permits, partition.guaranteed);
      partition.places = places.get(name) ?? 0;
      partition.mostPlaces = atMost(maxShare, this.#maxQueued, partition.places);
      this.#commonPlaces -= partition.places;
      this.#commonTaken += Math.max(0, partition.queued - partition.places);
    }
  }

  #queueOf(partition: Partition): PriorityQueue<PartitionTicket<C>> {
    const queue = this.#queues[partition.index];
    if (queue === undefined) throw new Error("a partition of another semaphore");
    return queue;
  }

  #remove(ticket: PartitionTicket<C>): boolean {
    const { partition, handle } = ticket;
    if (handle === undefined || !this.#queueOf(partition).remove(handle)) return false;
    if (partition.queued > partition.places) this.#commonTaken -= 1;
    partition.queued -= 1;
    this.#queued -= 1;
    return true;
  }

  /** Whether a newcomer for whom permits are free comes before all candidates that wait. */
  #passes(partition: Partition, rank: number, weight: number): boolean {
    const borrows = partition.running + weight > partition.guaranteed;
    for (const queue of this.#queues) {
      const next = queue.first()?.item;
      if (next === undefined) continue;
      if (next.partition === partition) {
        if (next.rank <= rank) return false;
        continue;
      }
      if (!next.mayRun()) continue;
      const inTheWay = next.borrows()
        ? borrows && next.rank <= rank
        : borrows || (next.rank <= rank && this.#fits(next));
      if (inTheWay) return false;
    }
    return true;
  }

  #fits(ticket: PartitionTicket<C>): boolean {
    return this.#running + ticket.weight <= this.#permits;
  }

  #serve(): void {
    // A grant may release at once, which would recurse as deep as the queue is long. So the outermost call serves all of
    // them, in a loop.
    if (this.#serving) return;
    let failed = false;
    let failure: unknown;
    this.#serving = true;
    for (;;) {
      const next = this.#next();
      if (next === undefined) break;
      this.#remove(next);
      next.partition.running += next.weight;
      this.#running += next.weight;
      try {
        next.candidate.grant();
      } catch (error) {
        if (!failed) failure = error;
        failed = true;
      }
    }
    this.#serving = false;
    if (failed) throw failure;
  }

  /** The candidate that is next, if permits are free for it. */
  #next(): PartitionTicket<C> | undefined {
    if (this.#queued === 0) return undefined;
    let own: PartitionTicket<C> | undefined;
    let borrower: PartitionTicket<C> | undefined;
    let owed = false;
    for (const queue of this.#queues) {
      const next = queue.first()?.item;
      if (next === undefined || !next.mayRun()) continue;
      if (next.borrows()) {
        if (borrower === undefined || next.precedes(borrower)) borrower = next;
      } else {
        owed = true;
        // All guarantees together are no more than all permits: whichever goes first, the others get theirs.
        if (this.#fits(next) && (own === undefined || next.precedes(own))) own = next;
      }
    }
    if (own !== undefined) return own;
    if (owed || borrower === undefined || !this.#fits(borrower)) return undefined;
    return borrower;
  }
}

/** What a bulkhead counts for one partition. All three only grow. */
export interface Tally {
  admitted: number;
  refused: number;
  /** Calls that left the queue before they were served. */
  left: number;
}

/** One partition: its share and what it uses. {@link Partitions} keeps the numbers, the bulkhead keeps the tally. */
export class Partition {
  readonly name: string;
  /** Its index in `Partitions.all`. */
  readonly index: number;
  /** Permits that no other partition can keep from it. */
  guaranteed = 0;
  /** Permits that it may hold at most, borrowed ones included. */
  most = 0;
  /** Permits that it holds: the sum of the weights of its running calls. */
  running = 0;
  /** Places in the queue that no other partition can take. */
  places = 0;
  /** Places in the queue that it may take at most. */
  mostPlaces = 0;
  /** Its calls that wait. */
  queued = 0;
  readonly tally: Tally = { admitted: 0, refused: 0, left: 0 };

  constructor(name: string, index: number) {
    this.name = name;
    this.index = index;
  }
}

/** The place of one candidate in the queue. */
export class PartitionTicket<C extends Candidate> {
  readonly partition: Partition;
  readonly candidate: C;
  readonly rank: number;
  readonly weight: number;
  readonly arrival: number;
  handle: QueueHandle<PartitionTicket<C>> | undefined;
  readonly #semaphore: Partitions<C>;

  constructor(
    semaphore: Partitions<C>,
    partition: Partition,
    candidate: C,
    rank: number,
    weight: number,
    arrival: number,
  ) {
    this.#semaphore = semaphore;
    this.partition = partition;
    this.candidate = candidate;
    this.rank = rank;
    this.weight = weight;
    this.arrival = arrival;
  }

  /** Leaves the queue. False when it has left already: granted, taken out, or cancelled. */
  cancel(): boolean {
    return this.#semaphore.leave(this);
  }

  /** With it, its partition has no more permits than it may have. */
  mayRun(): boolean {
    return this.partition.running + this.weight <= this.partition.most;
  }

  /** With it, its partition has more permits than it is guaranteed. */
  borrows(): boolean {
    return this.partition.running + this.weight > this.partition.guaranteed;
  }

  precedes(other: PartitionTicket<C>): boolean {
    return this.rank === other.rank ? this.arrival < other.arrival : this.rank < other.rank;
  }
}
