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
