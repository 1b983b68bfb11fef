import type { Partition } from "./partition.js";
import type { Outcome, Permit } from "./permit.js";

/** Who takes the permits back. */
interface Lender {
  release(partition: Partition, weight: number): void;
}

/** The permit of one call, of its partition and weight: one small object, and no function of its own. */
export class PartitionPermit implements Permit {
  readonly partition: Partition;
  readonly weight: number;
  #lender: Lender | undefined;

  constructor(lender: Lender, partition: Partition, weight: number) {
    this.#lender = lender;
    this.partition = partition;
    this.weight = weight;
  }

  settle(_outcome: Outcome): void {
    const lender = this.#lender;
    if (lender === undefined) return;
    this.#lender = undefined;
    lender.release(this.partition, this.weight);
  }
}
