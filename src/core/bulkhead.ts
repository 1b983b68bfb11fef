import type { Clock } from "./clock.js";
import type { ReportError } from "./notify.js";
import { durationMs, knownKeys, wholeNumber } from "./options.js";
import { QueuedTurn, reportLoudly, type TurnHost } from "./queued-turn.js";
import type { Reason } from "./reasons.js";
import { type Refusal, refusal } from "./refusal.js";
import { Semaphore } from "./semaphore.js";
import { type Entry, HeldPermit, type OnTurn } from "./turn.js";

export interface BulkheadOptions {
  /**
   * Calls that may run at once, a whole number of at least 1. Many servers and proxies take about
   * a hundred streams per connection, and beyond that the transport queues without saying so.
   * @defaultValue 100
   */
  readonly maxConcurrent?: number;
  /** Calls that may wait, a whole number; 0 for no queue. @defaultValue 100 */
  readonly maxQueued?: number;
  /**
   * The longest wait in milliseconds, up to 24 days; 0 for no queue. A call's own deadline ends its wait
   * sooner. @defaultValue 100
   */
  readonly maxWaitMs?: number;
}

export type ResolvedBulkheadOptions = Readonly<Required<BulkheadOptions>>;

/** Fills in the defaults. Throws `InvalidOptionError` for a value out of range or an unknown option. */
export function resolveBulkheadOptions(
  options: BulkheadOptions,
  prefix = "bulkhead",

  also: readonly string[] = [],
): ResolvedBulkheadOptions {
  knownKeys(prefix, options, ["maxConcurrent", "maxQueued", "maxWaitMs"], also);
  const { maxConcurrent = 100, maxQueued = 100, maxWaitMs = 100 } = options;
  return Object.freeze({
    maxConcurrent: wholeNumber(`${prefix}.maxConcurrent`, maxConcurrent, 1),
    maxQueued: wholeNumber(`${prefix}.maxQueued`, maxQueued, 0),
    maxWaitMs: durationMs(`${prefix}.maxWaitMs`, maxWaitMs),
  });
}

/** Numbers of one bulkhead. `admitted`, `refused` and `left` (the queue, unserved) only grow. */
export interface BulkheadSnapshot {
  readonly maxConcurrent: number;
  readonly running: number;
  readonly queued: number;
  readonly admitted: number;
  readonly refused: number;
  readonly left: number;
}

/**
 * Bounds how many calls to one target run at once, so that a slow target ties up a known share of the
 * process and not all of it. What finds no room waits a little, best rank first; the rest is refused.
 */
export class Bulkhead {
  readonly #options: ResolvedBulkheadOptions;
  readonly #clock: Clock;
  readonly #semaphore: Semaphore<QueuedTurn<undefined>>;
  readonly #host: TurnHost<undefined>;
  readonly #release: () => void;
  #closed = false;
  #admitted = 0;
  #refused = 0;
  #left = 0;

  /** `report` hears of an `onTurn` that throws; without it the error is thrown from a task of its own. */
  constructor(options: ResolvedBulkheadOptions, clock: Clock, report?: ReportError) {
    this.#options = options;
    this.#clock = clock;
    const semaphore = new Semaphore<QueuedTurn<undefined>>({
      permits: options.maxConcurrent,
      maxQueued: options.maxQueued,
    });
    this.#semaphore = semaphore;
    this.#release = () => semaphore.release();
    this.#host = {
      clock,
      maxWaitMs: options.maxWaitMs,
      report: report ?? reportLoudly(clock),
      admit: (_tag, nowMs) => this.#admit(nowMs),
      giveBack: this.#release,
      waitedOut: (_tag, reason, waitedMs) =>
        this.#refuse(reason, `waited ${Math.round(waitedMs)} ms, ${this.#occupancy()}`),
      left: () => {
        this.#left += 1;
      },
    };
  }

  /**
   * Asks for a permit. The lower `rank`, the sooner it is served; inside a rank, calls are served as
   * they came. `deadlineMs` is on the monotonic clock, `Infinity` for none.
   *
   * Refuses with `BULKHEAD_FULL`, `DEADLINE_EXPIRED` or `CLOSED`; a wait may end with `QUEUE_TIMEOUT` too.
   */
  enter(rank: number, deadlineMs: number, onTurn: OnTurn): Entry {
    if (this.#closed) return this.#refuse("CLOSED", "the bulkhead is closed");
    // Without a deadline, a call that finds room never reads the clock.
    if (deadlineMs !== Infinity && deadlineMs <= this.#clock.now()) {
      return this.#refuse("DEADLINE_EXPIRED", "the deadline had passed");
    }
    if (this.#semaphore.tryAcquire(rank)) return this.#admit(0);
    if (this.#options.maxWaitMs > 0) {
      const queued = new QueuedTurn(this.#host, undefined, this.#clock.now(), deadlineMs, onTurn);
      const waiter = this.#semaphore.enqueue(rank, queued);
      if (waiter !== undefined) {
        queued.wait(waiter);
        return queued.entered();
      }
    }
    return this.#refuse("BULKHEAD_FULL", this.#occupancy());
  }

  /** Refuses those who wait and those who come, with `CLOSED`. Permits that are out stay valid. */
  close(): void {
    this.#closed = true;
    for (;;) {
      const waiter = this.#semaphore.evictLast(-Infinity);
      if (waiter === undefined) return;
      waiter.candidate.refuse(this.#refuse("CLOSED", "the bulkhead was closed"));
    }
  }

  snapshot(): BulkheadSnapshot {
    return {
      maxConcurrent: this.#options.maxConcurrent,
      running: this.#semaphore.running,
      queued: this.#semaphore.queued,
      admitted: this.#admitted,
      refused: this.#refused,
      left: this.#left,
    };
  }

  #admit(nowMs: number): HeldPermit {
    this.#admitted += 1;
    return new HeldPermit(nowMs, this.#release);
  }

  #refuse(reason: Reason, detail: string): Refusal {
    this.#refused += 1;
    return refusal(reason, detail);
  }

  #occupancy(): string {
    const { running, queued } = this.#semaphore;
    const { maxConcurrent, maxQueued } = this.#options;
    return `running ${running} of ${maxConcurrent}, queued ${queued} of ${maxQueued}`;
  }
}
