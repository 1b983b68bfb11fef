import type { Clock } from "../../core/clock.js";
import type { RefusalReason, Side } from "../../core/decision.js";
import { type GaugeLabels, type Gauges, noteQueue } from "../../core/gauges.js";
import {
  durationMs,
  InvalidOptionError,
  optionalFunction,
  readOptions,
  shown,
  wholeNumber,
} from "../../core/options.js";
import {
  type GateAnswer,
  OncePermit,
  type OnGranted,
  type Refusal,
  refusal,
} from "../../core/permit.js";
import { type SemaphoreHost, SemaphoreWaiter } from "../../core/queue/waiting-call.js";
import { ask, keyText, type ReportError, warn } from "../../core/user-code.js";
import {
  type PartitionOptions,
  type PartitionShares,
  resolvePartitions,
  unpartitioned,
} from "./partition-options.js";
import { type Partition, Partitions } from "./partitions.js";

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/bulkhead.md */
export interface BulkheadOptions {
  /**
   * Calls that may run at once, a whole number of at least 1; a call counts with its weight. Many servers and proxies
   * take about 100 streams per connection (`SETTINGS_MAX_CONCURRENT_STREAMS`, RFC 9113 §6.5.2), and beyond that grpc-js
   * queues unseen. @defaultValue 100
   */
  readonly maxConcurrent?: number;
  /** Calls that may wait, a whole number of at least 0; 0 for no queue. @defaultValue 100 */
  readonly maxQueued?: number;
  /**
   * The longest wait, in milliseconds from 0 to 24 days; 0 for no queue. The deadline of a call ends its wait
   * sooner. @defaultValue 100, but no more than a third of the time until the deadline
   */
  readonly maxWaitMs?: number;
}

export interface ResolvedBulkheadOptions extends Readonly<Required<BulkheadOptions>> {
  /** The longest wait as a share of the time until the deadline of the call. */
  readonly maxWaitShare: number;
}

/**
 * Checks the options and fills in the defaults.
 *
 * @param also Names of options that the caller has taken out already, for the error about an unknown one.
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function resolveBulkheadOptions(
  given: BulkheadOptions,
  prefix = "bulkhead",
  also: readonly string[] = [],
): ResolvedBulkheadOptions {
  const options = readOptions(prefix, given, ["maxConcurrent", "maxQueued", "maxWaitMs"], also);
  const { maxConcurrent = 100, maxQueued = 100, maxWaitMs = 100 } = options;
  return Object.freeze({
    maxConcurrent: wholeNumber(`${prefix}.maxConcurrent`, maxConcurrent, 1),
    maxQueued: wholeNumber(`${prefix}.maxQueued`, maxQueued, 0),
    maxWaitMs: durationMs(`${prefix}.maxWaitMs`, maxWaitMs),
    // The default leaves most of the time for the work. A number that the user chose is kept as it is.
    maxWaitShare: options.maxWaitMs === undefined ? 1 / 3 : 1,
  });
}

/** The user's functions of a bulkhead. `C` is what they see of a call. */
export interface BulkheadHooks<C> {
  /**
   * How many permits a call takes, a whole number of at least 1. It runs for each attempt, so it should be cheap. When it
   * throws or returns anything else, that is reported and the call weighs 1. @defaultValue 1
   */
  readonly weight?: (call: C) => number;
  /**
   * Names the partition of a call. It runs for each attempt, so it should be cheap. The partition is `default` when the
   * name is not among `partitions`, and when it throws, which is reported.
   */
  readonly partition?: (call: C) => string;
}

/** How calls share a bulkhead: its partitions, and the functions that say what each call is. */
export interface SharingOptions<C> extends BulkheadHooks<C> {
  /**
   * Partitions of the bulkhead by name, with the share that each can count on and may borrow. Goes with `partition`, which
   * names the partition of a call; `default` is the one of all other calls. @defaultValue no partitions
   */
  readonly partitions?: Readonly<Record<string, PartitionOptions>>;
}

export interface ResolvedSharing<C> {
  readonly shares: PartitionShares;
  readonly hooks: { readonly [K in keyof BulkheadHooks<C>]: BulkheadHooks<C>[K] | undefined };
}

/**
 * Checks how calls share a bulkhead of `maxConcurrent` permits.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function resolveSharing<C>(
  {
    partitions,
    partition,
    weight,
  }: {
    readonly [K in keyof SharingOptions<C>]: SharingOptions<C>[K] | undefined;
  },
  maxConcurrent: number,
  prefix: string,
): ResolvedSharing<C> {
  optionalFunction(`${prefix}.weight`, weight);
  optionalFunction(`${prefix}.partition`, partition);
  if ((partitions === undefined) !== (partition === undefined)) {
    const missing = partitions === undefined ? "partitions" : "partition";
    const other = partitions === undefined ? "partition" : "partitions";
    throw new InvalidOptionError(`${prefix}.${missing}`, `given with ${other}`, undefined);
  }
  return {
    shares:
      partitions === undefined
        ? unpartitioned
        : resolvePartitions(partitions, maxConcurrent, `${prefix}.partitions`),
    hooks: { weight, partition },
  };
}

/**
 * Numbers of one partition. `admitted`, `refused` and `left` (the queue, without being served) only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/bulkhead.md
 */
export interface BulkheadPartitionSnapshot {
  /** Permits that no other partition can keep from it. */
  readonly guaranteed: number;
  /** Permits that it may hold at most, borrowed ones included. */
  readonly most: number;
  readonly running: number;
  readonly queued: number;
  readonly admitted: number;
  readonly refused: number;
  readonly left: number;
}

/**
 * Numbers of one bulkhead. `admitted`, `refused` and `left` (the queue, without being served) only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/bulkhead.md
 */
export interface BulkheadSnapshot {
  readonly maxConcurrent: number;
  /** Permits that are out: the sum of the weights of the running calls. */
  readonly running: number;
  readonly queued: number;
  readonly admitted: number;
  readonly refused: number;
  readonly left: number;
  /** By name. Absent without partitions. */
  readonly partitions?: Readonly<Record<string, BulkheadPartitionSnapshot>>;
}

/**
 * Numbers of the bulkhead of one key.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/bulkhead.md
 */
export interface BulkheadPolicySnapshot extends BulkheadSnapshot {
  /** Numbers of the bulkhead for streams, where they have their own. */
  readonly streams?: BulkheadSnapshot;
}

/**
 * Numbers of the bulkheads of one policy.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/bulkhead.md
 */
export interface BulkheadsSnapshot {
  /** By key, which is the target of a call unless `by` or `key` says otherwise. */
  readonly bulkheads: Readonly<Record<string, BulkheadPolicySnapshot>>;
}

/**
 * Bounds how many calls run at once, so that a slow target takes up a known part of the process and not all of it. When
 * all permits are out, calls wait for a short time in a bounded queue, best rank first; the rest is refused.
 *
 * With partitions, no kind of call can take all permits. {@link Partitions} has the rules.
 */
export class Bulkhead {
  #options: ResolvedBulkheadOptions;
  readonly #clock: Clock;
  readonly #partitions: Semaphore;
  #partitioned: boolean;
  readonly #what: string;
  readonly #host: SemaphoreHost<PartitionPermit>;
  #closed: "CLOSED" | "DRAINING" | undefined;

  /**
   * @param report Told of an `onGranted` that throws. By default the process emits a warning.
   * @param shares From `resolvePartitions`.
   * @param what For people: which calls the bulkhead is for, if not for all. It begins the details of refusals.
   */
  constructor(
    options: ResolvedBulkheadOptions,
    clock: Clock,
    report: ReportError = warn,
    shares: PartitionShares = unpartitioned,
    what = "",
  ) {
    this.#options = options;
    this.#clock = clock;
    this.#what = what;
    this.#partitioned = shares !== unpartitioned;
    this.#partitions = new Partitions(
      { permits: options.maxConcurrent, maxQueued: options.maxQueued },
      shares,
    );
    this.#host = {
      clock,
      longestWaitMs: (_permit, leftMs) => {
        const { maxWaitMs, maxWaitShare } = this.#options;
        return Math.min(maxWaitMs, leftMs * maxWaitShare);
      },
      report,
      admit: (permit) => this.#admit(permit),
      giveBack: (permit) => permit.settle("ignored"),
      waitedOut: ({ partition }, reason, waitedMs) => {
        const detail = `waited ${Math.round(waitedMs)} ms, ${this.#occupancy(partition)}`;
        return this.#refuse(partition, reason, detail);
      },
      left: ({ partition }) => {
        partition.tally.left += 1;
      },
      detailOf: ({ partition }) => this.#where(partition) || undefined,
    };
  }

  get maxConcurrent(): number {
    return this.#partitions.permits;
  }

  get queued(): number {
    return this.#partitions.queued;
  }

  /** Some call runs. While none does, none waits. */
  get inUse(): boolean {
    return this.#partitions.running > 0;
  }

  /**
   * Asks for a permit. The answer, or the end of the wait, is a refusal in these cases:
   *
   * - `BULKHEAD_FULL`: all permits are out and the queue is full, or the call is heavier than its partition may be;
   * - `DEADLINE_EXPIRED`: its deadline has passed;
   * - `QUEUE_TIMEOUT`: it waited for as long as it may;
   * - `CLOSED` or `DRAINING`: the bulkhead was closed.
   *
   * @param rank The lower, the sooner it is served. Inside a rank, calls are served in the order they came.
   * @param deadlineMs On the monotonic clock, `Infinity` for none.
   * @param weight Permits that it takes, a whole number of at least 1.
   * @param name Its partition. The default one for a name that no partition has.
   * @param givenMs The time now, where it has been read.
   */
  enter(
    rank: number,
    deadlineMs: number,
    onGranted: OnGranted,
    weight = 1,
    name?: string,
    givenMs?: number,
  ): GateAnswer {
    const partitions = this.#partitions;
    const partition = name === undefined ? partitions.unnamed : partitions.named(name);
    if (this.#closed !== undefined) {
      return this.#refuse(partition, this.#closed, "the bulkhead is closed");
    }
    // A call that has no deadline and finds room costs no reading of the clock.
    const hasDeadline = deadlineMs !== Infinity;
    const nowMs = hasDeadline ? (givenMs ?? this.#clock.now()) : 0;
    if (hasDeadline && deadlineMs <= nowMs) {
      return this.#refuse(partition, "DEADLINE_EXPIRED", "the deadline had passed");
    }
    // `!(… <= …)`, so that NaN is refused too.
    if (!(weight <= partition.most)) return this.#refuseTooHeavy(partition, weight);
    const permit = new PartitionPermit(partitions, partition, weight);
    if (partitions.tryAcquire(partition, rank, weight)) return this.#admit(permit);
    if (this.#options.maxWaitMs > 0) {
      const sinceMs = hasDeadline ? nowMs : this.#clock.now();
      const queued = new SemaphoreWaiter(this.#host, permit, sinceMs, deadlineMs, onGranted);
      const ticket = partitions.enqueue(partition, rank, weight, queued);
      if (ticket !== undefined) {
        queued.wait(ticket);
        return queued.entered();
      }
    }
    return this.#refuse(partition, "BULKHEAD_FULL", this.#occupancy(partition));
  }

  /**
   * Changes how many may run at once, while calls run. With a higher number the queue is served at once. With a lower one
   * running calls go on, none is admitted until they are few enough, and queued calls that are too heavy now are refused.
   *
   * @throws InvalidOptionError below 1.
   */
  resize(maxConcurrent: number): void {
    this.#refuseOutgrown(this.#partitions.resize(wholeNumber("maxConcurrent", maxConcurrent, 1)));
  }

  /** Changes all its numbers, as {@link resize} does. Calls that wait already wait for as long as they might have when they came. */
  reconfigure(options: ResolvedBulkheadOptions, shares: PartitionShares = unpartitioned): void {
    this.#options = options;
    this.#partitioned = shares !== unpartitioned;
    const { maxConcurrent: permits, maxQueued } = options;
    this.#refuseOutgrown(this.#partitions.reconfigure({ permits, maxQueued }, shares));
  }

  /** Refuses the queued calls and all that come later. Permits that are out stay valid. */
  close(reason: "CLOSED" | "DRAINING" = "CLOSED"): void {
    this.#closed = reason;
    for (const queued of this.#partitions.clear()) {
      queued.refuse(this.#refuse(queued.tag.partition, reason, "the bulkhead was closed"));
    }
  }

  /** Tells how many permits there are, how many are out, and how many calls wait. */
  measure(gauges: Gauges, side: Side, labels: Pick<GaugeLabels, "key" | "pool">): void {
    const { permits, running } = this.#partitions;
    gauges.note("bulkheadLimit", permits, { side, ...labels });
    gauges.note("bulkheadRunning", running, { side, ...labels });
    noteQueue(gauges, "bulkhead", side, (rank) => this.#partitions.waiting(rank));
  }

  snapshot(): BulkheadSnapshot {
    const { all, permits, running, queued } = this.#partitions;
    const sum = { admitted: 0, refused: 0, left: 0 };
    for (const { tally } of all) {
      sum.admitted += tally.admitted;
      sum.refused += tally.refused;
      sum.left += tally.left;
    }
    const total = { maxConcurrent: permits, running, queued, ...sum };
    if (!this.#partitioned) return total;
    return {
      ...total,
      partitions: Object.fromEntries(all.map((one) => [one.name, numbersOf(one)])),
    };
  }

  #refuseOutgrown(outgrown: readonly SemaphoreWaiter<PartitionPermit>[]): void {
    for (const queued of outgrown) {
      queued.refuse(this.#refuseTooHeavy(queued.tag.partition, queued.tag.weight));
    }
  }

  #admit(permit: PartitionPermit): PartitionPermit {
    permit.partition.tally.admitted += 1;
    return permit;
  }

  #refuse({ tally }: Partition, reason: RefusalReason, detail: string): Refusal {
    tally.refused += 1;
    return refusal(reason, detail);
  }

  #refuseTooHeavy(partition: Partition, weight: number): Refusal {
    const where = this.#where(partition);
    const heavy = `the call weighs ${weight}, and there are ${partition.most} at most`;
    const detail = where === "" ? heavy : `${where}: ${heavy}`;
    return this.#refuse(partition, "BULKHEAD_FULL", detail);
  }

  #occupancy(partition: Partition): string {
    const { running, permits, queued, maxQueued } = this.#partitions;
    const all = `running ${running} of ${permits}, queued ${queued} of ${maxQueued}`;
    const where = this.#where(partition);
    if (!this.#partitioned) return where === "" ? all : `${where}: ${all}`;
    const { guaranteed, most } = partition;
    const bounds = `(${guaranteed} guaranteed, ${most} at most)`;
    return `${where}: running ${partition.running} ${bounds}, queued ${partition.queued}; in all: ${all}`;
  }

  /** For people: which calls and which partition; empty for a bulkhead of all calls without partitions. */
  #where({ name }: Partition): string {
    if (!this.#partitioned) return this.#what;
    return this.#what === "" ? `partition ${name}` : `${this.#what}, partition ${name}`;
  }
}

type Semaphore = Partitions<SemaphoreWaiter<PartitionPermit>>;

/** The permit of one call, which knows its partition and weight. */
class PartitionPermit extends OncePermit {
  readonly partition: Partition;
  readonly weight: number;
  readonly #semaphore: Semaphore;

  constructor(semaphore: Semaphore, partition: Partition, weight: number) {
    super();
    this.#semaphore = semaphore;
    this.partition = partition;
    this.weight = weight;
  }

  protected onSettle(): void {
    this.#semaphore.release(this.partition, this.weight);
  }
}

function numbersOf(partition: Partition): BulkheadPartitionSnapshot {
  const { guaranteed, most, running, queued, tally } = partition;
  return { guaranteed, most, running, queued, ...tally };
}

/** The weight of a call: 1 without a function, or when the function fails. */
export function weightOf<C>(
  weight: BulkheadHooks<C>["weight"],
  call: C,
  report: ReportError,
  where: string,
): number {
  if (weight === undefined) return 1;
  return ask(() => weight(call), permits, 1, report, where);
}

function permits(answer: unknown): number {
  if (typeof answer === "number" && Number.isSafeInteger(answer) && answer >= 1) return answer;
  throw new RangeError(`a weight is a whole number of at least 1, got ${shown(answer)}`);
}

/** The name of the partition of a call; `undefined` without a function, or when the function fails. */
export function partitionOf<C>(
  partition: BulkheadHooks<C>["partition"],
  call: C,
  report: ReportError,
  where: string,
): string | undefined {
  if (partition === undefined) return undefined;
  return ask(() => partition(call), keyText, undefined, report, where);
}
