import type { Partition } from "./partition.js";
import type { QueueHandle } from "./priority-queue.js";
import type { Candidate, Waiter } from "./waiter.js";

/** The queue that a place is in. */
interface PlaceOwner<C extends Candidate> {
  leave(place: PartitionPlace<C>): boolean;
}

/** One candidate's place in the queue. */
export class PartitionPlace<C extends Candidate> implements Waiter<C> {
  readonly partition: Partition;
  readonly candidate: C;
  readonly rank: number;
  readonly weight: number;
  readonly arrival: number;
  handle: QueueHandle<PartitionPlace<C>> | undefined;
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

  precedes(other: PartitionPlace<C>): boolean {
    return this.rank === other.rank ? this.arrival < other.arrival : this.rank < other.rank;
  }
}
