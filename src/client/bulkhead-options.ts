import {
  type BulkheadOptions,
  type ResolvedBulkheadOptions,
  resolveBulkheadOptions,
} from "../core/bulkhead.js";
import type { BulkheadHooks } from "../core/bulkhead-hooks.js";
import {
  InvalidOptionError,
  oneOf,
  optionalFunction,
  readOptions,
  wholeNumber,
} from "../core/options.js";
import {
  type PartitionOptions,
  type PartitionShares,
  requirePermits,
  resolvePartitions,
  unpartitioned,
} from "../core/partition-options.js";
import { type CallKey, callKeys } from "./call-key.js";
import {
  type KeyedCall,
  type PolicyOptions,
  policyOptionNames,
  type StandaloneOptions,
  splitOptions,
} from "./policy-options.js";

/** What a bulkhead may be for: each always for one target only. */
export type BulkheadKey = CallKey;

export interface BulkheadPolicyOptions
  extends BulkheadOptions,
    BulkheadHooks<KeyedCall>,
    Pick<PolicyOptions, "mode"> {
  /**
   * What one bulkhead is for: a target, or a service or method of a target; or a function that names the bulkhead of
   * a call. A function runs for each attempt, so it should be cheap. @defaultValue `target`
   */
  readonly key?: BulkheadKey | ((call: KeyedCall) => string);
  /**
   * How many keys have a bulkhead, a whole number from 1 to 1,000,000. Of more, the one used longest ago is forgotten;
   * calls that it admitted go on, and its key starts anew. @defaultValue 1,000
   */
  readonly maxKeys?: number;
  /**
   * Parts of a bulkhead by name, with the shares that each can count on and borrow. `partition` says which a call
   * belongs to. `default` is the name of the part for all other calls. @defaultValue no parts
   */
  readonly partitions?: Readonly<Record<string, PartitionOptions>>;
  /**
   * Numbers of a bulkhead of their own for calls that are streamed in either direction, since a stream holds its
   * permit for long; what is left out is as for the others. `together`: they are counted with the others.
   * @defaultValue `together`
   */
  readonly streams?: BulkheadOptions | "together";
}

const ownNames = ["maxKeys", "partitions", "partition", "weight", "streams"];

/** All that a bulkhead policy is built from. */
export interface ResolvedBulkheadPolicyOptions {
  readonly own: PolicyOptions;
  readonly by: BulkheadKey;
  readonly maxKeys: number;
  readonly limits: ResolvedBulkheadOptions;
  /** Absent when streams are counted with the others. */
  readonly streams: ResolvedBulkheadOptions | undefined;
  readonly shares: PartitionShares;
  readonly hooks: BulkheadHooks<KeyedCall>;
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveBulkheadPolicyOptions(
  given: BulkheadPolicyOptions & StandaloneOptions,
  prefix: string,
): ResolvedBulkheadPolicyOptions {
  // Refuses what is no object of options; which keys are known is said further down.
  const options = readOptions(prefix, given);
  const { key = "target", ...others } = options;
  const by = typeof key === "function" ? "target" : oneOf(`${prefix}.key`, key, callKeys);
  const common = typeof key === "function" ? { ...others, key } : others;
  const { own, rest } = splitOptions(common, prefix);
  const { maxKeys = 1_000, partitions, partition, weight, streams = "together", ...numbers } = rest;
  optionalFunction(`${prefix}.weight`, weight);
  optionalFunction(`${prefix}.partition`, partition);
  const limits = resolveBulkheadOptions(numbers, prefix, [...ownNames, ...policyOptionNames]);
  const shares =
    partitions === undefined
      ? unpartitioned
      : resolvePartitions(partitions, limits.maxConcurrent, `${prefix}.partitions`);
  if (partitions !== undefined && partition === undefined) {
    throw new InvalidOptionError(`${prefix}.partition`, "given with partitions", partition);
  }
  if (partitions === undefined && partition !== undefined) {
    throw new InvalidOptionError(`${prefix}.partitions`, "given with partition", partitions);
  }
  const apart = streams === "together" ? undefined : resolveStreams(streams, numbers, prefix);
  if (apart !== undefined) requirePermits(shares, apart.maxConcurrent, `${prefix}.partitions`);
  return {
    own,
    by,
    maxKeys: wholeNumber(`${prefix}.maxKeys`, maxKeys, 1, 1_000_000),
    limits,
    streams: apart,
    shares,
    hooks: {
      ...(weight === undefined ? {} : { weight }),
      ...(partition === undefined ? {} : { partition }),
    },
  };
}

function resolveStreams(
  given: BulkheadOptions,
  numbers: BulkheadOptions,
  prefix: string,
): ResolvedBulkheadOptions {
  const option = `${prefix}.streams`;
  if (typeof given === "string") {
    throw new InvalidOptionError(option, '"together" or an object of options', given);
  }
  // Refuses what is no object of options: laid over the others, it would look like none at all.
  const streams = readOptions(option, given);
  return resolveBulkheadOptions({ ...numbers, ...streams }, option);
}
