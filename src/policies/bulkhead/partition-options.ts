import { finiteNumber, InvalidOptionError, ratio, readOptions } from "../../core/options.js";

/** What one partition of a number of permits may count on, and how much it may take. */
export interface PartitionOptions {
  /**
   * Share of all permits, from 0 to 1, that is the partition's whenever it wants it. Rounded down to whole permits;
   * a share above 0 is worth one at least. All shares together come to 1 at most. @defaultValue 0
   */
  readonly share?: number;
  /**
   * Share of all permits, above 0 and up to 1, that it may hold at most, with what it borrows of the others. At least
   * its `share`. @defaultValue 1
   */
  readonly maxShare?: number;
}

export type ResolvedPartitionOptions = Readonly<Required<PartitionOptions>>;

/** The options of all partitions, by name. The default partition is always among them. */
export type PartitionShares = ReadonlyMap<string, ResolvedPartitionOptions>;

/** The partition of calls that name none, or one that there is not. */
export const defaultPartition = "default";

/** Nothing is set apart: one partition that may have everything. */
export const unpartitioned: PartitionShares = new Map([
  [defaultPartition, { share: 0, maxShare: 1 }],
]);

/**
 * Fills in the defaults. Throws `InvalidOptionError` for a value out of range, an unknown option, shares of more than
 * the whole, or a share for which there is no permit.
 *
 * @param permits How many there are to share.
 */
export function resolvePartitions(
  given: Readonly<Record<string, PartitionOptions>>,
  permits: number,
  prefix = "partitions",
): PartitionShares {
  const options = readOptions(prefix, given);
  const shares = new Map(unpartitioned);
  for (const [name, its] of Object.entries(options)) {
    const path = `${prefix}.${name}`;
    const own = readOptions(path, its, ["share", "maxShare"]);
    const share = finiteNumber(`${path}.share`, own.share === undefined ? 0 : own.share, 0, 1);
    const maxShare = ratio(`${path}.maxShare`, own.maxShare === undefined ? 1 : own.maxShare);
    if (maxShare < share) {
      throw new InvalidOptionError(
        `${path}.maxShare`,
        `at least ${path}.share, ${share}`,
        maxShare,
      );
    }
    shares.set(name, Object.freeze({ share, maxShare }));
  }
  requireWhole(shares, prefix);
  requirePermits(shares, permits, prefix);
  return shares;
}

/** Refuses a share that not even one of so few permits could stand for: it would promise nothing. */
export function requirePermits(shares: PartitionShares, permits: number, prefix: string): void {
  const allotted = guarantees(shares, permits);
  for (const [name, { share }] of shares) {
    if (share > 0 && allotted.get(name) === 0) {
      const rule = `worth a permit: ${permits} are too few for all shares`;
      throw new InvalidOptionError(`${prefix}.${name}.share`, rule, share);
    }
  }
}

/**
 * So many of `total` are each partition's own. A share that comes to less than one is rounded up to one while there
 * are enough, first come first served: together they are never more than `total`.
 */
export function guarantees(shares: PartitionShares, total: number): ReadonlyMap<string, number> {
  const allotted = new Map<string, number>();
  let sum = 0;
  for (const [name, { share }] of shares) {
    const own = wholeBelow(share * total);
    allotted.set(name, own);
    sum += own;
  }
  for (const [name, { share }] of shares) {
    if (share === 0 || allotted.get(name) !== 0 || sum >= total) continue;
    allotted.set(name, 1);
    sum += 1;
  }
  return allotted;
}

/** So many of `total` a partition may have at most: one at least, and never less than is its own. */
export function atMost(share: number, total: number, guaranteed: number): number {
  return Math.min(total, Math.max(wholeBelow(share * total), guaranteed, 1));
}

function requireWhole(shares: PartitionShares, prefix: string): void {
  let sum = 0;
  for (const { share } of shares.values()) sum += share;
  if (sum > 1 + hair) {
    const shown = Number(sum.toFixed(6));
    throw new InvalidOptionError(prefix, "given shares that come to 1 at most together", shown);
  }
}

/** 0.3 + 0.6 + 0.1 is a hair below 1 in binary, and 70 × 0.1 a hair above 7: a hair is no permit. */
const hair = 1e-9;

function wholeBelow(share: number): number {
  return Math.floor(share + hair);
}
