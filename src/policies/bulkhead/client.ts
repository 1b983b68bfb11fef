import type { Interceptor } from "@grpc/grpc-js";
import type { ControlledPolicy, Mode } from "../../core/control.js";
import type { Gate } from "../../core/gate.js";
import { Keyed } from "../../core/keyed.js";
import {
  InvalidOptionError,
  oneOf,
  optionalFunction,
  readOptions,
  wholeNumber,
} from "../../core/options.js";
import type { GateAnswer, OnGranted } from "../../core/permit.js";
import { priorityRank } from "../../core/priority.js";
import type { ReportError } from "../../core/user-code.js";
import type { ClientPassage } from "../../grpc/client/gated-call.js";
import { interceptorOf } from "../../grpc/client/layers.js";
import {
  type CallKey,
  callKeys,
  gatesLayer,
  type KeyedCall,
  keyBy,
  keyFunction,
  type PolicyOptions,
  policyOptionNames,
  type StandaloneOptions,
  splitOptions,
  takeStandalone,
} from "../../grpc/client/policy.js";
import type { CallRecord } from "../../grpc/context/call-record.js";
import type { Environment } from "../../grpc/environment.js";
import {
  Bulkhead,
  type BulkheadHooks,
  type BulkheadOptions,
  type BulkheadSnapshot,
  partitionOf,
  type ResolvedBulkheadOptions,
  resolveBulkheadOptions,
  weightOf,
} from "./bulkhead.js";
import {
  type PartitionOptions,
  type PartitionShares,
  requirePermits,
  resolvePartitions,
  unpartitioned,
} from "./partition-options.js";

/** Numbers of the bulkhead of one key. */
export interface BulkheadPolicySnapshot extends BulkheadSnapshot {
  /** Of streams, where they are counted apart. */
  readonly streams?: BulkheadSnapshot;
}

/** The state of one key. */
interface Bulkheads {
  readonly calls: Bulkhead;
  /** Absent when streams are counted with the other calls. */
  readonly streams: Bulkhead | undefined;
}

/** Bulkheads by key: by target, unless the user names another key. */
export class BulkheadPolicy implements ControlledPolicy {
  mode: Mode;
  readonly #bulkheads: Keyed<Bulkheads>;
  readonly #keyOf: (record: CallRecord) => string;
  readonly #hooks: ResolvedBulkheadPolicyOptions["hooks"];
  readonly #report: ReportError;

  constructor(options: ResolvedBulkheadPolicyOptions, { clock, report }: Environment) {
    const { own, by, maxKeys, limits, streams, shares, hooks } = options;
    this.mode = own.mode ?? "enforce";
    this.#hooks = hooks;
    this.#report = report;
    this.#keyOf = keyFunction(own, keyBy(by), report, "bulkhead.key");
    const make = (): Bulkheads => ({
      calls: new Bulkhead(limits, clock, report, shares),
      streams: streams && new Bulkhead(streams, clock, report, shares, "streams"),
    });
    const inUse = ({ calls, streams }: Bulkheads) => calls.inUse || streams?.inUse === true;
    this.#bulkheads = new Keyed(make, maxKeys, inUse);
  }

  enter(record: CallRecord, onGranted: OnGranted): GateAnswer {
    const { calls, streams } = this.#bulkheads.get(this.#keyOf(record));
    const bulkhead = streams === undefined || record.kind === "unary" ? calls : streams;
    const { weight, partition } = this.#hooks;
    return bulkhead.enter(
      priorityRank[record.priority ?? "normal"],
      record.deadlineMs,
      onGranted,
      weightOf(weight, record, this.#report, "bulkhead.weight"),
      partitionOf(partition, record, this.#report, "bulkhead.partition"),
    );
  }

  snapshot(): Readonly<Record<string, BulkheadPolicySnapshot>> {
    const entries: [string, BulkheadPolicySnapshot][] = [];
    for (const [key, { calls, streams }] of this.#bulkheads.entries()) {
      const numbers = calls.snapshot();
      entries.push([
        key,
        streams === undefined ? numbers : { ...numbers, streams: streams.snapshot() },
      ]);
    }
    return Object.fromEntries(entries);
  }
}

export function bulkheadGate(policy: BulkheadPolicy): Gate<ClientPassage> {
  return {
    policy: "bulkhead",
    modeFor: () => policy.mode,
    enter: ({ record }, onGranted) => policy.enter(record, onGranted),
  };
}

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function bulkheadPolicy(
  options: BulkheadPolicyOptions & StandaloneOptions,
  environment: Environment,
  prefix: string,
): BulkheadPolicy {
  return new BulkheadPolicy(resolveBulkheadPolicyOptions(options, prefix), environment);
}

/**
 * Bounds the attempts to one target that run at once, as an interceptor of its own. What finds no room
 * waits, best priority first; the rest ends with RESOURCE_EXHAUSTED (reason `BULKHEAD_FULL`,
 * or `QUEUE_TIMEOUT` after a wait). Put it below `retry`, so that a call that backs off holds no permit.
 *
 * With `partitions`, kinds of calls have shares of it that they can count on, and borrow what others do not use.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function bulkhead(options: BulkheadPolicyOptions & StandaloneOptions = {}): Interceptor {
  const { environment } = takeStandalone(options, "bulkhead");
  const policy = bulkheadPolicy(options, environment, "bulkhead");
  return interceptorOf(environment, gatesLayer(environment, [bulkheadGate(policy)]));
}

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
function resolveBulkheadPolicyOptions(
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
