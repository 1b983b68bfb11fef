import { finiteNumber, InvalidOptionError, ratio, readOptions } from "../../core/options.js";

/**
 * The share of one partition.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/bulkhead.md
 */
export interface PartitionOptions {
  /**
   * Share of all permits that no other partition can keep from it, from 0 to 1. Rounded down to whole permits; a share above
   * 0 is worth at least one. All shares together are at most 1. @defaultValue 0
   */
  readonly share?: number;
  /**
   * Share of all permits that it may hold at most, borrowed ones included: above 0, up to 1, and at least `share`.
   * @defaultValue 1
   */
  readonly maxShare?: number;
}

export type ResolvedPartitionOptions = Readonly<Required<PartitionOptions>>;

/** The options of all partitions, by name. The default partition is always among them. */
export type PartitionShares = ReadonlyMap<string, ResolvedPartitionOptions>;

/** The partition of calls that name none, or one that does not exist. */
export const defaultPartition = "default";

/** One partition that may have all permits. */
export const unpartitioned: PartitionShares = new Map([
  [defaultPartition, { share: 0, maxShare: 1 }],
]);

/**
 * Checks the options of all partitions and fills in the defaults.
 *
 * @param permits How many permits there are to share.
 * @throws InvalidOptionError for an unknown option, a value out of range, shares that together exceed 1, or a share that is
 *   worth no permit.
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

/**
 * Refuses a share above 0 that comes to no whole permit: it would guarantee nothing.
 *
 * @throws InvalidOptionError
 */
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
 * How many of `total` each partition is guaranteed, by name. A share of less than one is rounded up to one while there are
 * enough, in the order of the partitions. All together are never more than `total`.
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

/** How many of `total` a partition may have at most: at least one, and at least its guarantee. */
export function atMost(share: number, total: number, guaranteed: number): number {
  return Math.min(total, Math.max(wholeBelow(share * total), guaranteed, 1));
}

function requireWhole(shares: PartitionShares, prefix: string): void {
  let sum = 0;
  for (const { share } of shares.values()) sum += share;
  if (sum > 1 + tolerance) {
    const shown = Number(sum.toFixed(6));
    throw new InvalidOptionError(prefix, "given shares that come to 1 at most together", shown);
  }
}

/** Rounding errors of floating point are no permits: 0.3 + 0.6 + 0.1 is a little below 1, and 70 × 0.1 a little above 7. */
const tolerance = 1e-9;

function wholeBelow(share: number): number {
  return Math.floor(share + tolerance);
}
