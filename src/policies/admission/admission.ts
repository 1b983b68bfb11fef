import type { Clock, Random } from "../../core/clock.js";
import type { RefusalReason } from "../../core/decision.js";
import {
  type GateAnswer,
  type OnGranted,
  type Permit,
  type Refusal,
  refusal,
} from "../../core/permit.js";
import { type Priority, priorities, priorityRank } from "../../core/priority.js";
import { Prospects, RetryAfterEstimate } from "../../core/queue/retry-after.js";
import { type SemaphoreHost, SemaphoreWaiter } from "../../core/queue/waiting-call.js";
import { type ReportError, warn } from "../../core/user-code.js";
import { EventLoopBudget } from "./event-loop-budget.js";
import { Lateness } from "./lateness.js";
import type { AdmissionPoolOptions } from "./options.js";
import { AdmissionQueue, type QueueTicket } from "./queue.js";
import { LatencyTarget, QueueBounds } from "./queue-bounds.js";
import type { ShedCall, Shedder } from "./shedders.js";
import { Slots } from "./slots.js";

type Waiter = SemaphoreWaiter<AdmissionCall>;

/**
 * Decides which calls a server takes on. Up to the limit they run, then they wait, best priority first; as the load
 * rises shedders refuse the lower priorities, and in a full queue the overflow policy says who has to go.
 *
 * `critical` is asked by no shedder, waits ahead of all others, may exceed the limit by its headroom, and finds a full
 * queue only when everybody in it is critical too.
 */
export class Admission {
  readonly #options: AdmissionPoolOptions;
  readonly #clock: Clock;
  readonly #shedders: readonly Shedder[];
  readonly #line: AdmissionQueue<Waiter>;
  readonly #host: SemaphoreHost<AdmissionCall>;
  readonly #prospects: Prospects;
  readonly #latencyTarget = new LatencyTarget();
  readonly #lateness = new Lateness();
  readonly #server = {
    load: 0,
    nowMs: 0,
    worstWaiting: undefined as Priority | undefined,
    owed: false,
  };
  readonly #admitted = zeros();
  readonly #refused = zeros();
  readonly #left = zeros();
  #shed = 0;
  readonly #slots: Slots;
  readonly #bounds: QueueBounds;
  #serving = false;
  #draining = false;

  constructor(
    options: AdmissionPoolOptions,
    clock: Clock,
    random: Random,
    parts: AdmissionParts = {},
  ) {
    const { saturated = () => false, shedders = [], report = warn } = parts;
    this.#options = options;
    this.#clock = clock;
    this.#shedders = shedders;
    const limit = options.makeLimit(
      random,
      {
        saturated,
        ceilingMs: () => this.#latencyTarget.ms,
        heldUp: () => this.#lateness.takeHeldUp(),
        late: (nowMs) => this.#lateness.ranOut(nowMs),
        demand: () => this.#slots.taken + this.#line.size,
      },
      report,
    );
    const turnMs = () => this.#latencyTarget.turnMs;
    const turn = options.byTurns
      ? new EventLoopBudget(clock, turnMs, () => this.#serve())
      : undefined;
    const retryAfterEstimate = new RetryAfterEstimate(random, options.maxWaitMs);
    this.#prospects = new Prospects(retryAfterEstimate, clock);
    const onFree = () => this.#serve();
    this.#slots = new Slots(options, {
      clock,
      limit,
      turn,
      retryAfterEstimate,
      prospects: this.#prospects,
      lateness: this.#lateness,
      onFree,
    });
    this.#bounds = new QueueBounds(options, this.#latencyTarget, this.#slots);
    this.#line = new AdmissionQueue({ ...options.queue, ranks: priorities.length });
    this.#host = {
      clock,
      longestWaitMs: ({ priority }, leftMs) => this.#bounds.longestWaitMs(priority, leftMs),
      report,
      admit: (call, nowMs) => this.#admit(call, nowMs),
      giveBack: () => this.#slots.giveBack(),
      waitedOut: (call, reason, waitedMs) =>
        this.#refuse(call, reason, `waited ${Math.round(waitedMs)} ms, ${this.#occupancy()}`),
      left: ({ priority }) => {
        this.#left[priority] += 1;
      },
    };
  }

  /** How full it is: (running + queued) / (limit + maxQueued). A little above 1 while critical calls use their headroom. */
  get load(): number {
    const { taken, count } = this.#slots;
    const { size } = this.#line;
    const maxQueued = this.#bounds.maxQueued;
    // Slots that are free while calls wait are none: what is short then is the time of the event loop.
    return taken < count && size > 0 ? size / maxQueued : (taken + size) / (count + maxQueued);
  }

  /**
   * Asks for a permit.
   *
   * Refuses with `DRAINING`, `DEADLINE_EXPIRED`, `LOAD_SHED` (a shedder says so) or `CONCURRENCY_LIMIT` (no permit, no
   * place). A wait may end with `QUEUE_TIMEOUT`, `DEADLINE_EXPIRED`, `DEADLINE_INFEASIBLE` (when its turn came too
   * little time was left), `DRAINING`, or `LOAD_SHED` when another call took the place. A refusal that another try
   * may overcome carries `retryAfterMs`.
   */
  enter(call: AdmissionCall, onGranted: OnGranted): GateAnswer {
    const nowMs = this.#clock.now();
    // What there is room for may have grown without a call that ended.
    this.#serve(nowMs);
    if (this.#draining) return this.#refuse(call, "DRAINING", "the server is draining");
    this.#bounds.see(this.#line.overloaded(nowMs));
    const { priority, deadlineMs } = call;
    if (deadlineMs <= nowMs)
      return this.#refuse(call, "DEADLINE_EXPIRED", "the deadline had passed");
    const shed = this.#shedNow(call, nowMs);
    if (shed !== undefined) return shed;
    if (this.#hasRoom(priority === "critical", nowMs)) {
      this.#latencyTarget.see(deadlineMs - nowMs, this.#lateness.usualMs(call.method));
      this.#slots.take(nowMs);
      this.#line.served(priorityRank[priority]);
      return this.#admit(call, nowMs);
    }
    return this.#queue(call, nowMs, onGranted);
  }

  /**
   * Whether a call would be refused if it asked now. For calls that cannot use a slot yet: the refusal then costs less than
   * their request. Next to nothing is looked at while there is room and nobody waits.
   */
  check(call: AdmissionCall): Refusal | undefined {
    if (this.#draining) return this.#refuse(call, "DRAINING", "the server is draining");
    if (this.#line.size === 0 && this.#slots.taken < this.#slots.count) return undefined;
    const nowMs = this.#clock.now();
    this.#serve(nowMs);
    this.#bounds.see(this.#line.overloaded(nowMs));
    const shed = this.#shedNow(call, nowMs);
    if (shed !== undefined) return shed;
    if (this.#hasRoom(call.priority === "critical", nowMs)) return undefined;
    const maxQueued = this.#bounds.maxQueued;
    if (this.#line.size < maxQueued || this.#victim(call, nowMs, maxQueued) !== undefined) {
      return undefined;
    }
    return this.#full(call);
  }

  /**
   * Fixes the limit while calls run. A higher one serves the queue at once; under a lower one, calls that run stay, and
   * nobody is admitted until there are few enough. Throws `InvalidOptionError` below 1.
   */
  resize(limit: number): void {
    this.#slots.resize(limit);
    this.#serve();
  }

  /** A handler has held the event loop for so long, in milliseconds. */
  ran(tookMs: number): void {
    this.#slots.ran(tookMs);
  }

  /** Refuses those who wait and those who come, with `DRAINING`. Calls that run are left to end. */
  drain(): void {
    this.#draining = true;
    const nowMs = this.#clock.now();
    for (
      let place = this.#line.shift(nowMs);
      place !== undefined;
      place = this.#line.shift(nowMs)
    ) {
      const { item } = place;
      item.refuse(this.#refuse(item.tag, "DRAINING", "the server began to drain"));
    }
  }

  /** Calls are late, or will be: a queue has stood for too long to be a burst. */
  isLate(nowMs: number): boolean {
    return this.#line.overloaded(nowMs) || this.#lateness.isLate(nowMs);
  }

  /** How its slots have been used until now. */
  workAt(nowMs: number): AdmissionWork {
    const { count, taken } = this.#slots;
    return { limit: count, taken, takenMs: this.#slots.takenMsAt(nowMs), shed: this.#shed };
  }

  snapshot(): AdmissionSnapshot {
    return {
      limit: this.#slots.count,
      maxQueued: this.#bounds.maxQueued,
      running: this.#slots.taken,
      abandoned: this.#slots.abandoned,
      queued: this.#line.size,
      draining: this.#draining,
      admitted: { ...this.#admitted },
      refused: { ...this.#refused },
      left: { ...this.#left },
    };
  }

  /** What a shedder says of the call; none is asked of a critical one. */
  #shedNow(call: AdmissionCall, nowMs: number): Refusal | undefined {
    if (call.priority === "critical") return undefined;
    const shed = this.#judge(call, nowMs);
    return shed === undefined ? undefined : this.#refuse(call, "LOAD_SHED", shed);
  }

  #judge(call: AdmissionCall, nowMs: number): string | undefined {
    const server = this.#server;
    server.load = this.load;
    server.nowMs = nowMs;
    server.worstWaiting = priorities[this.#line.worstRank];
    server.owed = this.#line.isOwed(priorityRank[call.priority]);
    for (const shedder of this.#shedders) {
      const shed = shedder.judge(call, server);
      if (shed !== undefined) return `${shed}, ${this.#occupancy()}`;
    }
    return undefined;
  }

  /** Nobody waits while there is room, but from inside a turn, or behind one who may not use the headroom. */
  #hasRoom(critical: boolean, nowMs: number): boolean {
    const { size, firstRankWaits } = this.#line;
    return (critical ? !firstRankWaits : size === 0) && this.#slots.isFree(critical, nowMs);
  }

  #queue(call: AdmissionCall, nowMs: number, onGranted: OnGranted): GateAnswer {
    const rank = priorityRank[call.priority];
    const maxQueued = this.#bounds.maxQueued;
    let evicted: Waiter | undefined;
    if (this.#line.size >= maxQueued) {
      const victim = this.#victim(call, nowMs, maxQueued);
      if (victim === undefined) return this.#full(call);
      this.#line.remove(victim);
      evicted = victim.item;
    }
    // Only those who have a prospect say what time callers give: not whoever asks.
    this.#latencyTarget.see(call.deadlineMs - nowMs, this.#lateness.usualMs(call.method));
    if (this.#line.size === 0) this.#bounds.begin();
    const waiter = new SemaphoreWaiter(this.#host, call, nowMs, call.deadlineMs, onGranted);
    const place = this.#line.push(waiter, rank, nowMs);
    waiter.wait({ cancel: () => this.#line.remove(place) });
    // Only now, with the place taken: the evicted call may come back at once, from inside its callback.
    if (evicted !== undefined) this.#evict(evicted, call.priority);
    return waiter.entered();
  }

  /** Who would give a full queue's place to the call. */
  #victim({ priority }: AdmissionCall, nowMs: number, maxQueued: number) {
    if (maxQueued === 0) return undefined;
    const { overflow, maxAgeMs } = this.#options.queue;
    return this.#line.victim(overflow, priorityRank[priority], nowMs, maxAgeMs);
  }

  #evict(evicted: Waiter, by: Priority): void {
    evicted.refuse(this.#refuse(evicted.tag, "LOAD_SHED", `gave its place to a ${by} call`));
  }

  /** Gives free slots to those who wait. The outermost call serves them all: a grant may free a slot at once. */
  #serve(atMs?: number): void {
    if (this.#serving || this.#line.size === 0) return;
    this.#serving = true;
    const nowMs = atMs ?? this.#clock.now();
    for (;;) {
      if (!this.#slots.isFree(this.#line.firstRankWaits, nowMs)) break;
      const overloaded = this.#line.overloaded(nowMs);
      const place = this.#line.shift(nowMs);
      if (place === undefined) break;
      const { item, rank, owed } = place;
      const spent = this.#spent(place, nowMs, overloaded);
      if (spent !== undefined) item.refuse(spent);
      else {
        this.#slots.take(nowMs);
        this.#line.served(rank, owed);
        item.grant();
      }
    }
    this.#serving = false;
  }

  /** Why a call whose turn has come is not worth a slot any more. */
  #spent(
    { item, rank, sinceMs, owed }: QueueTicket<Waiter>,
    nowMs: number,
    overloaded: boolean,
  ): Refusal | undefined {
    const call = item.tag;
    const waitedMs = nowMs - sinceMs;
    const { order, targetMs } = this.#options.queue;
    // In a standing queue a call that waited longer has been overtaken, and would be late (CoDel's target). Whoever is owed a
    // turn has waited for it behind all others.
    if (order === "adaptive-lifo" && overloaded && waitedMs > targetMs && rank > 0 && !owed) {
      const detail = `waited ${Math.round(waitedMs)} ms in a standing queue, ${this.#occupancy()}`;
      return this.#refuse(call, "QUEUE_TIMEOUT", detail);
    }
    const leftMs = call.deadlineMs - nowMs;
    if (leftMs > 0 && leftMs < call.neededMs) {
      const detail = `${Math.round(leftMs)} ms are left after the queue, ${Math.round(call.neededMs)} ms are needed`;
      return this.#refuse(call, "DEADLINE_INFEASIBLE", detail);
    }
    return undefined;
  }

  #full(call: AdmissionCall): Refusal {
    return this.#refuse(call, "CONCURRENCY_LIMIT", this.#occupancy());
  }

  #admit(call: AdmissionCall, nowMs: number): Permit {
    this.#admitted[call.priority] += 1;
    return this.#slots.permit(call, nowMs);
  }

  #refuse(call: AdmissionCall, reason: RefusalReason, detail: string): Refusal {
    this.#refused[call.priority] += 1;
    // Another try here is of no use to a call without time, or on a server that is about to go.
    if (reason !== "LOAD_SHED" && reason !== "CONCURRENCY_LIMIT" && reason !== "QUEUE_TIMEOUT") {
      return refusal(reason, detail);
    }
    this.#shed += 1;
    const queued = this.#line.size;
    const atOnce = this.#slots.count;
    const rank = priorityRank[call.priority];
    return refusal(reason, detail, this.#prospects.roundRetryAfterMs({ queued, atOnce, rank }));
  }

  #occupancy(): string {
    const { taken, count } = this.#slots;
    return `running ${taken} of ${count}, queued ${this.#line.size} of ${this.#bounds.maxQueued}`;
  }
}

type ByPriority = Record<Priority, number>;

/** What admission knows of a call. */
export interface AdmissionCall extends ShedCall {
  /** On the monotonic clock, `Infinity` for none. */
  readonly deadlineMs: number;
  /** What it is compared with when it ends: calls of the same method. @defaultValue all are of one */
  readonly method?: string;
  /** How long such calls run as a rule, in milliseconds; 0 where that is not known. */
  readonly neededMs: number;
}

/** Numbers of one pool of slots. `admitted`, `refused` and `left` (the queue, unserved) only grow. */
export interface AdmissionSnapshot {
  readonly limit: number;
  readonly maxQueued: number;
  readonly running: number;
  /** Of those that run, the ones whose callers have left while their handlers work on. */
  readonly abandoned: number;
  readonly queued: number;
  readonly draining: boolean;
  readonly admitted: Readonly<ByPriority>;
  readonly refused: Readonly<ByPriority>;
  readonly left: Readonly<ByPriority>;
}

/** How the slots of a pool have been used. `takenMs` and `shed` only grow. */
export interface AdmissionWork {
  readonly limit: number;
  /** Slots that are taken now. */
  readonly taken: number;
  /** The time for which slots have been taken, summed over all slots, in milliseconds. */
  readonly takenMs: number;
  /** Calls that were refused for load: by a shedder, a full queue, or a wait that took too long. */
  readonly shed: number;
}

/** What an admission stands on beside its options. */
export interface AdmissionParts {
  /** This process has no more to give. For limits that learn. @defaultValue never */
  readonly saturated?: () => boolean;
  /** Asked in their order before anything else. @defaultValue none */
  readonly shedders?: readonly Shedder[];
  /** Hears of an `onTurn` that throws. @defaultValue the error is thrown from a task of its own */
  readonly report?: ReportError;
}

/** Counts that begin. */
function zeros(): ByPriority {
  return { critical: 0, high: 0, normal: 0, low: 0 };
}
