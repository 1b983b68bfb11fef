import type { ResolvedAdmissionOptions } from "./admission-options.js";
import type { Clock } from "./clock.js";
import { HoldTime } from "./hold-time.js";
import type { ReportError } from "./notify.js";
import { wholeNumber } from "./options.js";
import { type Priority, priorityRank } from "./priority.js";
import { QueuedTurn, reportLoudly, type TurnHost } from "./queued-turn.js";
import type { Random } from "./random.js";
import type { Reason } from "./reasons.js";
import { type Refusal, refusal } from "./refusal.js";
import { Semaphore } from "./semaphore.js";
import { type Entry, HeldPermit, type OnTurn } from "./turn.js";

type ByPriority = Record<Priority, number>;

/** Numbers of one server's admission. `admitted`, `refused` and `left` (the queue, unserved) only grow. */
export interface AdmissionSnapshot {
  readonly limit: number;
  readonly maxQueued: number;
  readonly running: number;
  readonly queued: number;
  readonly draining: boolean;
  readonly admitted: Readonly<ByPriority>;
  readonly refused: Readonly<ByPriority>;
  readonly left: Readonly<ByPriority>;
}

/**
 * Decides which calls a server takes on. Up to the limit they run, then they wait, best priority first;
 * as the load rises the lower priorities are refused, and in a full queue the worst makes room for the better.
 *
 * `critical` knows no thresholds, waits ahead of all others, may exceed the limit by its headroom, and finds
 * a full queue only when everybody in it is critical too.
 */
export class Admission {
  readonly #options: ResolvedAdmissionOptions;
  readonly #clock: Clock;
  readonly #semaphore: Semaphore<QueuedTurn<Priority>>;
  readonly #host: TurnHost<Priority>;
  readonly #holdTime: HoldTime;
  readonly #release: (sinceMs: number) => void;
  readonly #admitted = zeros();
  readonly #refused = zeros();
  readonly #left = zeros();
  #headroom: number;
  #draining = false;

  /** `report` hears of an `onTurn` that throws; without it the error is thrown from a task of its own. */
  constructor(
    options: ResolvedAdmissionOptions,
    clock: Clock,
    random: Random,
    report?: ReportError,
  ) {
    this.#options = options;
    this.#clock = clock;
    this.#headroom = headroomOf(options.limit, options.criticalHeadroom);
    this.#holdTime = new HoldTime(random, options.maxWaitMs);
    const semaphore = new Semaphore<QueuedTurn<Priority>>({
      permits: options.limit,
      maxQueued: options.maxQueued,
    });
    this.#semaphore = semaphore;
    this.#release = (sinceMs) => {
      this.#holdTime.record(clock.now() - sinceMs);
      semaphore.release();
    };
    this.#host = {
      clock,
      maxWaitMs: options.maxWaitMs,
      report: report ?? reportLoudly(clock),
      admit: (priority, nowMs) => this.#admit(priority, nowMs),
      giveBack: () => semaphore.release(),
      waitedOut: (priority, reason, waitedMs) =>
        this.#refuse(priority, reason, `waited ${Math.round(waitedMs)} ms, ${this.#occupancy()}`),
      left: (priority) => {
        this.#left[priority] += 1;
      },
    };
  }

  /**
   * Asks for a permit. `deadlineMs` is on the monotonic clock, `Infinity` for none.
   *
   * Refuses with `DRAINING`, `DEADLINE_EXPIRED`, `LOAD_SHED` (this priority's threshold is reached) or
   * `CONCURRENCY_LIMIT` (no permit, no place, nobody to evict). A wait may end with `QUEUE_TIMEOUT`,
   * `DEADLINE_EXPIRED`, `DRAINING`, or `LOAD_SHED` when a better call took the place.
   * A refusal that another try may overcome carries `retryAfterMs`.
   */
  enter(priority: Priority, deadlineMs: number, onTurn: OnTurn): Entry {
    if (this.#draining) return this.#refuse(priority, "DRAINING", "the server is draining");
    const nowMs = this.#clock.now();
    if (deadlineMs <= nowMs) {
      return this.#refuse(priority, "DEADLINE_EXPIRED", "the deadline had passed");
    }
    if (priority !== "critical" && this.#sheds(priority)) {
      const threshold = this.#options.thresholds[priority];
      const detail = `load has reached ${threshold} for ${priority}, ${this.#occupancy()}`;
      return this.#refuse(priority, "LOAD_SHED", detail);
    }
    const rank = priorityRank[priority];
    const headroom = priority === "critical" ? this.#headroom : 0;
    if (this.#semaphore.tryAcquire(rank, headroom)) return this.#admit(priority, nowMs);
    if (this.#options.maxWaitMs === 0) return this.#full(priority);
    return this.#queue(new QueuedTurn(this.#host, priority, nowMs, deadlineMs, onTurn), headroom);
  }

  /**
   * Sets the limit while calls run. A higher one serves the queue at once; under a lower one, calls that
   * run stay, and nobody is admitted until there are few enough. Throws `InvalidOptionError` below 1.
   */
  resize(limit: number): void {
    this.#headroom = headroomOf(wholeNumber("limit", limit, 1), this.#options.criticalHeadroom);
    this.#semaphore.resize(limit);
  }

  /** Refuses those who wait and those who come, with `DRAINING`. Calls that run are left to end. */
  drain(): void {
    this.#draining = true;
    for (;;) {
      const waiter = this.#semaphore.evictLast(-Infinity);
      if (waiter === undefined) return;
      const { candidate } = waiter;
      candidate.refuse(this.#refuse(candidate.tag, "DRAINING", "the server began to drain"));
    }
  }

  snapshot(): AdmissionSnapshot {
    return {
      limit: this.#semaphore.permits,
      maxQueued: this.#options.maxQueued,
      running: this.#semaphore.running,
      queued: this.#semaphore.queued,
      draining: this.#draining,
      admitted: { ...this.#admitted },
      refused: { ...this.#refused },
      left: { ...this.#left },
    };
  }

  #sheds(priority: Exclude<Priority, "critical">): boolean {
    const threshold = this.#options.thresholds[priority];
    // At 1 the load can only say that the queue is full, and a full queue has a rule of its own.
    if (threshold >= 1) return false;
    const { running, queued, permits } = this.#semaphore;
    return running + queued >= wholeAtLeast(threshold * (permits + this.#options.maxQueued));
  }

  #queue(queued: QueuedTurn<Priority>, headroom: number): Entry {
    const priority = queued.tag;
    const rank = priorityRank[priority];
    let waiter = this.#semaphore.enqueue(rank, queued, headroom);
    let evicted: QueuedTurn<Priority> | undefined;
    if (waiter === undefined) {
      evicted = this.#semaphore.evictLast(rank)?.candidate;
      if (evicted !== undefined) waiter = this.#semaphore.enqueue(rank, queued, headroom);
    }
    if (waiter === undefined) return this.#full(priority);
    queued.wait(waiter);
    // Only now, with the place taken: the evicted call may come back at once, from inside its callback.
    evicted?.refuse(this.#refuse(evicted.tag, "LOAD_SHED", `gave its place to a ${priority} call`));
    return queued.entered();
  }

  #full(priority: Priority): Refusal {
    return this.#refuse(priority, "CONCURRENCY_LIMIT", this.#occupancy());
  }

  #admit(priority: Priority, nowMs: number): HeldPermit {
    this.#admitted[priority] += 1;
    return new HeldPermit(nowMs, this.#release);
  }

  #refuse(priority: Priority, reason: Reason, detail: string): Refusal {
    this.#refused[priority] += 1;
    // Another try here is of no use to a call without time, or on a server that is about to go.
    if (reason === "DRAINING" || reason === "DEADLINE_EXPIRED") return refusal(reason, detail);
    const { queued, permits } = this.#semaphore;
    return refusal(reason, detail, this.#holdTime.retryAfterMs(queued + 1, permits));
  }

  #occupancy(): string {
    const { running, queued, permits } = this.#semaphore;
    return `running ${running} of ${permits}, queued ${queued} of ${this.#options.maxQueued}`;
  }
}

function headroomOf(limit: number, share: number): number {
  return wholeAtLeast(limit * share);
}

/** Rounds a share of a whole up: 70 × 0.1 is a hair above 7 in binary, and a hair is not an eighth call. */
function wholeAtLeast(share: number): number {
  return Math.ceil(share - 1e-9);
}

function zeros(): ByPriority {
  return { critical: 0, high: 0, normal: 0, low: 0 };
}
