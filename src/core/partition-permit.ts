import type { Partition } from "./partition.js";
import { OncePermit } from "./permit.js";

/** Who takes the permits back. */
interface Lender {
  release(partition: Partition, weight: number): void;
}

/** The permit of one call, of its partition and weight: one small object, and no function of its own. */
export class PartitionPermit extends OncePermit {
  readonly partition: Partition;
  readonly weight: number;
  readonly #lender: Lender;

  constructor(lender: Lender, partition: Partition, weight: number) {
    super();
    this.#lender = lender;
    this.partition = partition;
    this.weight = weight;
  }

  protected onSettle(): void {
    this.#lender.release(this.partition, this.weight);
  }
}
