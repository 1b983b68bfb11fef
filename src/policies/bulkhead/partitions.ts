import { PriorityQueue, type QueueHandle } from "../../core/queue/priority-queue.js";
import type { Candidate, Waiter } from "../../core/queue/waiting-call.js";
import { atMost, defaultPartition, guarantees, type PartitionShares } from "./partition-options.js";

/** How much there is to share out. */
export interface PermitOptions {
  /** How many may hold a permit at once. */
  readonly permits: number;
  /** How many may wait for one. Zero: nobody waits. */
  readonly maxQueued: number;
}

/**
 * A counting semaphore whose permits are shared out to named partitions, with a bounded queue. A candidate takes as
 * many permits as it weighs. A partition borrows what the others do not use, and gives it back first:
 *
 * - Inside a partition the lowest rank is next, by arrival inside a rank, and nobody passes it. One that is too heavy
 *   for now holds up those behind it, and is never overtaken by its like.
 * - Of the partitions' next ones, those that fit into their guarantee come first. While one of them waits, nobody borrows.
 * - What is left goes to the best rank and the oldest of the others. If it is too heavy for now, the permits that come
 *   free are kept for it.
 *
 * Places in the queue are shared out by the same shares and not lent, or one partition's crowd would shut the others out.
 *
 * It knows no time and no reasons; those belong to the policies that stand on it.
 */
export class Partitions<C extends Candidate> {
  /** The partition of candidates that name none. */
  readonly unnamed: Partition;
  readonly #all: Partition[] = [];
  readonly #byName = new Map<string, Partition>();
  readonly #queues: PriorityQueue<PartitionTicket<C>>[] = [];
  readonly #shares: PartitionShares;
  readonly #maxQueued: number;
  /** Places in the queue that are nobody's own, and how many of them are taken. */
  readonly #commonPlaces: number;
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
    const places = guarantees(shares, options.maxQueued);
    let common = options.maxQueued;
    for (const [name, { maxShare }] of shares) {
      const partition = new Partition(name, this.#all.length);
      partition.places = places.get(name) ?? 0;
      partition.mostPlaces = atMost(maxShare, options.maxQueued, partition.places);
      common -= partition.places;
      this.#all.push(partition);
      this.#byName.set(name, partition);
      this.#queues.push(new PriorityQueue());
    }
    this.#commonPlaces = common;
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

  /** Permits that are out, by weight. Above `permits` only after these became fewer. */
  get running(): number {
    return this.#running;
  }

  /** Candidates that wait, each counted once. */
  get queued(): number {
    return this.#queued;
  }

  get all(): readonly Partition[] {
    return this.#all;
  }

  /** The partition of that name; the default one for names that nobody gave. */
  named(name: string): Partition {
    return this.#byName.get(name) ?? this.unnamed;
  }

  /**
   * Takes permits if they are free now, and nobody waits whose turn comes first. That may bring the turn of somebody
   * else: of one behind another who now has to wait for this partition's own permits.
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
   * Waits for permits; undefined when there is no place in the queue. It is for those whom `tryAcquire` refused: a
   * candidate for whom permits are free is granted them before this returns. What is heavier than `partition.most`
   * would wait for ever, so that is for the caller to refuse.
   */
  enqueue(partition: Partition, rank: number, weight: number, candidate: C): Waiter<C> | undefined {
    const takesCommon = partition.queued >= partition.places;
    if (takesCommon && this.#commonTaken >= this.#commonPlaces) return undefined;
    if (partition.queued >= partition.mostPlaces) return undefined;
    const place = new PartitionTicket(this, partition, candidate, rank, weight, this.#arrivals++);
    place.handle = this.#queueOf(partition).push(place, rank);
    partition.queued += 1;
    this.#queued += 1;
    if (takesCommon) this.#commonTaken += 1;
    this.#serve();
    return place;
  }

  /** Gives permits back. Throws when fewer are out: somebody has released twice. */
  release(partition: Partition, weight: number): void {
    if (partition.running < weight) throw new Error("released a permit that nobody holds");
    partition.running -= weight;
    this.#running -= weight;
    if (this.#queued > 0) this.#serve();
  }

  /**
   * Changes the number of permits. Those who hold some keep them, but what they release goes to nobody until the
   * number fits. Takes out of the queue, and returns, who is too heavy for so few.
   */
  resize(permits: number): readonly C[] {
    this.#permits = permits;
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

  /** Takes all who wait out of the queue, and returns them. */
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

  /** For a place in the queue whose candidate goes away. */
  leave(place: PartitionTicket<C>): boolean {
    if (!this.#remove(place)) return false;
    // It may have been the one for whom permits were kept.
    if (this.#queued > 0) this.#serve();
    return true;
  }

  #allot(): void {
    const own = guarantees(this.#shares, this.#permits);
    for (const partition of this.#all) {
      partition.guaranteed = own.get(partition.name) ?? 0;
      const maxShare = this.#shares.get(partition.name)?.maxShare ?? 1;
      partition.most = atMost(maxShare, this.#permits, partition.guaranteed);
    }
  }

  #queueOf(partition: Partition): PriorityQueue<PartitionTicket<C>> {
    const queue = this.#queues[partition.index];
    if (queue === undefined) throw new Error("a partition of somebody else");
    return queue;
  }

  #remove(place: PartitionTicket<C>): boolean {
    const { partition, handle } = place;
    if (handle === undefined || !this.#queueOf(partition).remove(handle)) return false;
    if (partition.queued > partition.places) this.#commonTaken -= 1;
    partition.queued -= 1;
    this.#queued -= 1;
    return true;
  }

  /** Whether a newcomer, for whom permits are free, may have them before all who wait. */
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

  #fits(place: PartitionTicket<C>): boolean {
    return this.#running + place.weight <= this.#permits;
  }

  #serve(): void {
    // A grant may release at once, and that release would grant to the next, as deep as the queue is
    // long. The outermost call serves everyone instead, in a loop.
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

  /** Whose turn it is, if permits are free for it. */
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
        // Guarantees fit side by side: whoever goes first, the others' permits come back to them.
        if (this.#fits(next) && (own === undefined || next.precedes(own))) own = next;
      }
    }
    if (own !== undefined) return own;
    if (owed || borrower === undefined || !this.#fits(borrower)) return undefined;
    return borrower;
  }
}

/** What a policy counts of the calls of one partition. These only grow. */
export interface Tally {
  admitted: number;
  refused: number;
  /** Went away while they waited. */
  left: number;
}

/**
 * One named part of a number of permits: what is its own, what it may take, and what it has. The numbers are kept by
 * the `Partitions` that it belongs to, the tally by the policy that stands on them.
 */
export class Partition {
  readonly name: string;
  /** Its place among the partitions. */
  readonly index: number;
  /** Permits that are its own whenever it wants them. */
  guaranteed = 0;
  /** Permits that it may hold at most, with what it borrows. */
  most = 0;
  /** Permits that it holds: the weights of its calls that run. */
  running = 0;
  /** Places in the queue that are its own. */
  places = 0;
  /** Places that it may take at most. */
  mostPlaces = 0;
  /** Its calls that wait. */
  queued = 0;
  readonly tally: Tally = { admitted: 0, refused: 0, left: 0 };

  constructor(name: string, index: number) {
    this.name = name;
    this.index = index;
  }
}

/** The queue that a place is in. */
interface PlaceOwner<C extends Candidate> {
  leave(place: PartitionTicket<C>): boolean;
}

/** One candidate's place in the queue. */
export class PartitionTicket<C extends Candidate> implements Waiter<C> {
  readonly partition: Partition;
  readonly candidate: C;
  readonly rank: number;
  readonly weight: number;
  readonly arrival: number;
  handle: QueueHandle<PartitionTicket<C>> | undefined;
  readonly #queue: PlaceOwner<C>;

  constructor(
    queue: PlaceOwner<C>,
    partition: Partition,
    candidate: C,
    rank: number,
    weight: number,
    arrival: number,
  ) {
    this.#queue = queue;
    this.partition = partition;
    this.candidate = candidate;
    this.rank = rank;
    this.weight = weight;
    this.arrival = arrival;
  }

  cancel(): boolean {
    return this.#queue.leave(this);
  }

  /** Its partition may have that much. */
  mayRun(): boolean {
    return this.partition.running + this.weight <= this.partition.most;
  }

  /** It takes more than is its partition's own. */
  borrows(): boolean {
    return this.partition.running + this.weight > this.partition.guaranteed;
  }

  precedes(other: PartitionTicket<C>): boolean {
    return this.rank === other.rank ? this.arrival < other.arrival : this.rank < other.rank;
  }
}
