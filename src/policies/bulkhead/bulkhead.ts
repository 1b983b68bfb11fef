import type { Clock } from "../../core/clock.js";
import type { RefusalReason } from "../../core/decision.js";
import { durationMs, readOptions, wholeNumber } from "../../core/options.js";
import {
  type GateAnswer,
  OncePermit,
  type OnGranted,
  type Refusal,
  refusal,
} from "../../core/permit.js";
import { type SemaphoreHost, SemaphoreWaiter } from "../../core/queue/waiting-call.js";
import { ask, keyText, type ReportError, shown, warn } from "../../core/user-code.js";
import { type PartitionShares, unpartitioned } from "./partition-options.js";
import { type Partition, Partitions } from "./partitions.js";

export interface BulkheadOptions {
  /**
   * Calls that may run at once, a whole number of at least 1; a call counts as much as it weighs. Many servers and
   * proxies take about a hundred streams per connection, and beyond that the transport queues without saying so.
   * @defaultValue 100
   */
  readonly maxConcurrent?: number;
  /** Calls that may wait, a whole number; 0 for no queue. @defaultValue 100 */
  readonly maxQueued?: number;
  /**
   * The longest wait in milliseconds, up to 24 days; 0 for no queue. A call's own deadline ends its wait
   * sooner. @defaultValue 100, but no more than a third of the time that the call has left
   */
  readonly maxWaitMs?: number;
}

export interface ResolvedBulkheadOptions extends Readonly<Required<BulkheadOptions>> {
  /** The longest wait as a share of the time that a call has left. */
  readonly maxWaitShare: number;
}

/** Fills in the defaults. Throws `InvalidOptionError` for a value out of range or an unknown option. */
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
    // A number that nobody has chosen leaves most of the time for the work; one that somebody has is kept.
    maxWaitShare: options.maxWaitMs === undefined ? 1 / 3 : 1,
  });
}

/** Numbers of one partition. `admitted`, `refused` and `left` (the queue, unserved) only grow. */
export interface BulkheadPartitionSnapshot {
  /** Permits that are its own whenever it wants them. */
  readonly guaranteed: number;
  /** Permits that it may hold at most, with what it borrows. */
  readonly most: number;
  readonly running: number;
  readonly queued: number;
  readonly admitted: number;
  readonly refused: number;
  readonly left: number;
}

/** Numbers of one bulkhead. `admitted`, `refused` and `left` (the queue, unserved) only grow. */
export interface BulkheadSnapshot {
  readonly maxConcurrent: number;
  /** Permits that are out: the calls that run, each as often as it weighs. */
  readonly running: number;
  readonly queued: number;
  readonly admitted: number;
  readonly refused: number;
  readonly left: number;
  /** By name, where there are any. */
  readonly partitions?: Readonly<Record<string, BulkheadPartitionSnapshot>>;
}

/**
 * Bounds how many calls to one target run at once, so that a slow target ties up a known share of the
 * process and not all of it. What finds no room waits a little, best rank first; the rest is refused.
 *
 * With partitions, no kind of calls ties up all of that share either: see {@link Partitions} for the rules.
 */
export class Bulkhead {
  readonly #options: ResolvedBulkheadOptions;
  readonly #clock: Clock;
  readonly #partitions: Partitions<SemaphoreWaiter<PartitionPermit>>;
  readonly #partitioned: boolean;
  readonly #what: string;
  readonly #host: SemaphoreHost<PartitionPermit>;
  #closed: "CLOSED" | "DRAINING" | undefined;

  /**
   * `report` hears of an `onTurn` that throws; without it the error is thrown from a task of its own. `shares` comes
   * from `resolvePartitions`. `what` says in texts for people what kind of calls it is for, if not for all.
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
      longestWaitMs: (_permit, leftMs) =>
        Math.min(options.maxWaitMs, leftMs * options.maxWaitShare),
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

  /** Calls run or wait in it. */
  get inUse(): boolean {
    return this.#partitions.running > 0 || this.#partitions.queued > 0;
  }

  /**
   * Asks for a permit. The lower `rank`, the sooner it is served; inside a rank, calls are served as
   * they came. `deadlineMs` is on the monotonic clock, `Infinity` for none.
   *
   * `weight` is a whole number of at least 1. A `name` that no partition has stands for the default one.
   *
   * Refuses with `BULKHEAD_FULL`, `DEADLINE_EXPIRED`, or once it is closed; a wait may end with `QUEUE_TIMEOUT` too.
   */
  enter(
    rank: number,
    deadlineMs: number,
    onGranted: OnGranted,
    weight = 1,
    name?: string,
  ): GateAnswer {
    const partitions = this.#partitions;
    const partition = name === undefined ? partitions.unnamed : partitions.named(name);
    if (this.#closed !== undefined) {
      return this.#refuse(partition, this.#closed, "the bulkhead is closed");
    }
    // Without a deadline, a call that finds room never reads the clock.
    const hasDeadline = deadlineMs !== Infinity;
    const nowMs = hasDeadline ? this.#clock.now() : 0;
    if (hasDeadline && deadlineMs <= nowMs) {
      return this.#refuse(partition, "DEADLINE_EXPIRED", "the deadline had passed");
    }
    // Written so that a weight that is no number is refused as well.
    if (!(weight <= partition.most)) return this.#refuseTooHeavy(partition, weight);
    const permit = new PartitionPermit(partitions, partition, weight);
    if (partitions.tryAcquire(partition, rank, weight)) return this.#admit(permit);
    if (this.#options.maxWaitMs > 0) {
      const sinceMs = hasDeadline ? nowMs : this.#clock.now();
      const queued = new SemaphoreWaiter(this.#host, permit, sinceMs, deadlineMs, onGranted);
      const waiter = partitions.enqueue(partition, rank, weight, queued);
      if (waiter !== undefined) {
        queued.wait(waiter);
        return queued.entered();
      }
    }
    return this.#refuse(partition, "BULKHEAD_FULL", this.#occupancy(partition));
  }

  /**
   * Sets how many may run at once, while calls run. More serves the queue at once; with fewer, calls that run stay,
   * and nobody is admitted until they are few enough. Calls that wait and are now too heavy are refused.
   * Throws `InvalidOptionError` below 1.
   */
  resize(maxConcurrent: number): void {
    const outgrown = this.#partitions.resize(wholeNumber("maxConcurrent", maxConcurrent, 1));
    for (const turn of outgrown) {
      turn.refuse(this.#refuseTooHeavy(turn.tag.partition, turn.tag.weight));
    }
  }

  /** Refuses those who wait and those who come, for the reason given. Permits that are out stay valid. */
  close(reason: "CLOSED" | "DRAINING" = "CLOSED"): void {
    this.#closed = reason;
    for (const turn of this.#partitions.clear()) {
      turn.refuse(this.#refuse(turn.tag.partition, reason, "the bulkhead was closed"));
    }
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

  /** Which part of the bulkhead; empty where it has none. */
  #where({ name }: Partition): string {
    if (!this.#partitioned) return this.#what;
    return this.#what === "" ? `partition ${name}` : `${this.#what}, partition ${name}`;
  }
}

function numbersOf(partition: Partition): BulkheadPartitionSnapshot {
  const { guaranteed, most, running, queued, tally } = partition;
  return { guaranteed, most, running, queued, ...tally };
}

/** What a user's own functions say of a call that comes to a bulkhead. */
export interface BulkheadHooks<C> {
  /**
   * How many permits a call takes, a whole number of at least 1. It runs for each attempt, so it should be cheap.
   * What it throws, or answers beside such a number, is reported, and the call weighs 1. @defaultValue 1
   */
  readonly weight?: (call: C) => number;
  /**
   * Names the partition of a call. It runs for each attempt, so it should be cheap. A name that is not among the
   * partitions, or an error, which is reported, leads to the partition `default`.
   */
  readonly partition?: (call: C) => string;
}

/** The weight of a call, whatever the user's function does. */
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

/** The name of a call's partition, whatever the user's function does; `undefined` for the default one. */
export function partitionOf<C>(
  partition: BulkheadHooks<C>["partition"],
  call: C,
  report: ReportError,
  where: string,
): string | undefined {
  if (partition === undefined) return undefined;
  return ask(() => partition(call), keyText, undefined, report, where);
}

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
