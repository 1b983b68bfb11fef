import type { Clock, Random } from "../../core/clock.js";
import type { RefusalReason } from "../../core/decision.js";
import { type GaugeLabels, type Gauges, noteQueue } from "../../core/gauges.js";
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
import type { RampingLimit } from "../limits/limit.js";
import { EventLoopBudget } from "./event-loop-budget.js";
import { Lateness } from "./lateness.js";
import type { AdmissionPoolOptions } from "./options.js";
import { AdmissionQueue, type AdmissionQueueOptions, type QueueTicket } from "./queue.js";
import { LatencyTarget, QueueBounds } from "./queue-bounds.js";
import type { ShedCall, Shedder } from "./shedders.js";
import { Slots } from "./slots.js";
import { type CallerUsage, UsageByCaller, type UsageOptions } from "./usage.js";

/** What a call is charged for a slot while it is not known how long such calls take, in milliseconds. */
const unknownUseMs = 1;

/**
 * Admission control for one pool of slots: decides which calls a server runs, queues and refuses. Calls run up to the
 * limit. Beyond it they wait, best priority first. As the load rises, shedders refuse the lower priorities; when the queue
 * is full, the overflow policy decides which call is refused.
 *
 * `critical` calls are not shed, wait ahead of all others, may exceed the limit by their headroom, and are refused for a
 * full queue only when all calls in it are critical.
 *
 * Where callers are told apart, the caller that has used most of late waits longest and is refused first, inside each
 * priority. Accounts are kept only while calls wait: who is served at once takes nothing from others.
 */
export class Admission<C extends AdmissionCall = AdmissionCall> {
  #options: AdmissionPoolOptions;
  readonly #clock: Clock;
  readonly #report: ReportError;
  #shedders: readonly Shedder[];
  #onAnswer: AdmissionParts<C>["onAnswer"];
  #usage: UsageByCaller | undefined;
  #callerOf: ((call: C) => string) | undefined;
  #eventLoop: EventLoopBudget | undefined;
  readonly #waiting: AdmissionQueue<SemaphoreWaiter<C>>;
  readonly #host: SemaphoreHost<C>;
  readonly #prospects: Prospects;
  readonly #latencyTarget = new LatencyTarget();
  readonly #lateness = new Lateness();
  /** What shedders are given of the server. One object, filled anew for each call. */
  readonly #server = {
    load: 0,
    nowMs: 0,
    worstWaiting: undefined as Priority | undefined,
    owed: false,
    heavierWaits: () => this.#heavierWaits(this.#judged),
  };
  /** The call that shedders are asked about. */
  #judged: C | undefined;
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
    parts: AdmissionParts<C> = {},
  ) {
    const { shedders = [], onAnswer, report = warn, fairness } = parts;
    this.#options = options;
    this.#clock = clock;
    this.#shedders = shedders;
    this.#onAnswer = onAnswer;
    this.#callerOf = fairness?.callerOf;
    this.#usage = fairness === undefined ? undefined : new UsageByCaller(fairness);
    this.#report = report;
    this.#eventLoop = options.byTurns ? this.#newEventLoopBudget() : undefined;
    const retryAfterEstimate = new RetryAfterEstimate(random, options.maxWaitMs);
    this.#prospects = new Prospects(retryAfterEstimate, clock);
    const onFree = () => this.#serve();
    this.#slots = new Slots(options, {
      clock,
      limit: this.#newLimit(),
      eventLoop: this.#eventLoop,
      retryAfterEstimate,
      prospects: this.#prospects,
      lateness: this.#lateness,
      onFree,
      onUsed: (caller, ms, nowMs) => this.#waiting.charge(caller, ms, nowMs),
    });
    this.#bounds = new QueueBounds(options, this.#latencyTarget, this.#slots);
    this.#waiting = new AdmissionQueue(this.#queueOptions());
    this.#host = {
      clock,
      longestWaitMs: ({ priority }, leftMs) => this.#bounds.longestWaitMs(priority, leftMs),
      report,
      admit: (call, nowMs) => this.#admit(call, nowMs, this.#usageOf(call)),
      giveBack: () => this.#slots.giveBack(),
      waitedOut: (call, reason, waitedMs) =>
        this.#refuse(call, reason, `waited ${Math.round(waitedMs)} ms, ${this.#occupancy()}`),
      left: ({ priority }) => {
        this.#left[priority] += 1;
      },
    };
  }

  /**
   * Goes on with other options. Calls that run keep their slots, and calls that wait their places; a wait that has begun ends when
   * it would have ended.
   *
   * @param limitChanged The limit is another one. One that is learnt begins anew.
   */
  reconfigure(
    options: AdmissionPoolOptions,
    { shedders = [], onAnswer, fairness }: AdmissionParts<C>,
    limitChanged: boolean,
  ): void {
    const nowMs = this.#clock.now();
    this.#options = options;
    this.#shedders = shedders;
    this.#onAnswer = onAnswer;
    this.#callerOf = fairness?.callerOf;
    if (fairness === undefined) this.#usage = undefined;
    else if (this.#usage === undefined) this.#usage = new UsageByCaller(fairness);
    else this.#usage.reconfigure(fairness, nowMs);
    this.#eventLoop = options.byTurns ? (this.#eventLoop ?? this.#newEventLoopBudget()) : undefined;
    const limit = limitChanged ? this.#newLimit() : undefined;
    this.#slots.reconfigure(options, limit, this.#eventLoop);
    this.#bounds.options = options;
    this.#waiting.reconfigure(this.#queueOptions());
    this.#serve(nowMs);
  }

  /** (running + queued) / (limit + maxQueued): from 0 to 1, a little above while critical calls use their headroom. */
  get load(): number {
    const { taken, count } = this.#slots;
    const { size } = this.#waiting;
    const maxQueued = this.#bounds.maxQueued;
    // While calls wait for the event loop, free slots are no capacity: the load is how full the queue is.
    return taken < count && size > 0 ? size / maxQueued : (taken + size) / (count + maxQueued);
  }

  /**
   * Asks for a slot.
   *
   * Refuses at once with
   * - `DRAINING`,
   * - `DEADLINE_EXPIRED`,
   * - `LOAD_SHED`: a shedder refuses the call,
   * - `CONCURRENCY_LIMIT`: no slot is free and the queue is full.
   *
   * A wait ends with a permit, or with
   * - `QUEUE_TIMEOUT`: it was as long as it may be,
   * - `DEADLINE_EXPIRED`,
   * - `DEADLINE_INFEASIBLE`: a slot was free, and too little time was left for the handler,
   * - `LOAD_SHED`: another call took its place in the queue,
   * - `DRAINING`.
   *
   * A refusal for load has `retryAfterMs`, in milliseconds.
   */
  enter(call: C, onGranted: OnGranted): GateAnswer {
    const nowMs = this.#clock.now();
    // The limit may have grown since the last call ended: those who wait come first.
    this.#serve(nowMs);
    if (this.#draining) return this.#refuse(call, "DRAINING", "the server is draining");
    this.#bounds.setStanding(this.#waiting.overloaded(nowMs));
    const { priority, deadlineMs } = call;
    if (deadlineMs <= nowMs)
      return this.#refuse(call, "DEADLINE_EXPIRED", "the deadline had passed");
    const shed = this.#shedNow(call, nowMs);
    if (shed !== undefined) return shed;
    if (this.#hasRoom(priority === "critical", nowMs)) {
      this.#latencyTarget.note(deadlineMs - nowMs, this.#lateness.usualMs(call.method));
      this.#slots.take(nowMs);
      this.#waiting.served(priorityRank[priority]);
      // A critical call that passes others takes the slot from them.
      return this.#admit(call, nowMs, this.#waiting.size > 0 ? this.#usageOf(call) : undefined);
    }
    return this.#queue(call, nowMs, onGranted);
  }

  /**
   * Refuses a call that `enter` would refuse now, and takes no slot. For calls whose request has not arrived yet: a refusal
   * costs less than reading the request. Cheap while a slot is free and the queue is empty.
   */
  check(call: C): Refusal | undefined {
    if (this.#draining) return this.#refuse(call, "DRAINING", "the server is draining");
    if (this.#waiting.size === 0 && this.#slots.taken < this.#slots.count) return undefined;
    const nowMs = this.#clock.now();
    this.#serve(nowMs);
    this.#bounds.setStanding(this.#waiting.overloaded(nowMs));
    const shed = this.#shedNow(call, nowMs);
    if (shed !== undefined) return shed;
    if (this.#hasRoom(call.priority === "critical", nowMs)) return undefined;
    const maxQueued = this.#bounds.maxQueued;
    if (this.#waiting.size < maxQueued || this.#victim(call, nowMs, maxQueued) !== undefined) {
      return undefined;
    }
    return this.#full(call);
  }

  /**
   * Sets a fixed limit while calls run. A higher limit serves the queue at once. Under a lower one the calls that run go
   * on, and none is admitted until fewer run.
   *
   * @throws InvalidOptionError below 1.
   */
  resize(limit: number): void {
    this.#slots.resize(limit);
    this.#serve();
  }

  /** A handler has held the event loop for `tookMs` milliseconds. */
  ran(tookMs: number): void {
    this.#slots.ran(tookMs);
  }

  /** Refuses the calls that wait and all that come, with `DRAINING`. Calls that run go on. */
  drain(): void {
    this.#draining = true;
    const nowMs = this.#clock.now();
    for (;;) {
      const next = this.#waiting.shift(nowMs)?.item;
      if (next === undefined) return;
      next.refuse(this.#refuse(next.tag, "DRAINING", "the server began to drain"));
    }
  }

  /** Calls are late, or will be because the queue is a standing one and no burst. */
  isLate(nowMs: number): boolean {
    return this.#waiting.overloaded(nowMs) || this.#lateness.isLate(nowMs);
  }

  /** How the slots have been used until now. */
  workAt(nowMs: number): AdmissionWork {
    const { count, taken } = this.#slots;
    return { limit: count, taken, takenMs: this.#slots.takenMsAt(nowMs), shed: this.#shed };
  }

  /** What callers have used of late, in milliseconds of slots. Empty where callers are not told apart. */
  usedAt(nowMs: number): readonly (readonly [caller: string, usedMs: number])[] {
    return this.#usage?.at(nowMs) ?? [];
  }

  /** Tells how many slots there are, how many are in use, how many calls have had one, and how many wait. */
  measure(gauges: Gauges, labels: GaugeLabels): void {
    gauges.note("admissionLimit", this.#slots.count, labels);
    gauges.note("admissionRunning", this.#slots.taken, labels);
    for (const priority of priorities) {
      gauges.note("admissionAdmitted", this.#admitted[priority], { ...labels, priority });
    }
    noteQueue(gauges, "admission", "server", (rank) => this.#waiting.waiting(rank));
  }

  snapshot(): AdmissionSnapshot {
    return {
      limit: this.#slots.count,
      maxQueued: this.#bounds.maxQueued,
      running: this.#slots.taken,
      abandoned: this.#slots.abandoned,
      queued: this.#waiting.size,
      draining: this.#draining,
      admitted: { ...this.#admitted },
      refused: { ...this.#refused },
      left: { ...this.#left },
    };
  }

  #newLimit(): RampingLimit {
    return this.#options.makeLimit(
      {
        ceilingMs: () => this.#latencyTarget.ms,
        heldUp: () => this.#lateness.takeHeldUp(),
        slowed: () => this.#lateness.takeSlowed(),
        late: (nowMs) => this.#lateness.ranOut(nowMs),
        demand: () => this.#slots.taken + this.#waiting.size,
      },
      this.#report,
    );
  }

  #newEventLoopBudget(): EventLoopBudget {
    const turnMs = () => this.#latencyTarget.turnMs;
    return new EventLoopBudget(this.#clock, turnMs, () => this.#serve());
  }

  #queueOptions(): AdmissionQueueOptions {
    return {
      ...this.#options.queue,
      ranks: priorities.length,
      intervalMs: () => this.#bounds.intervalMs,
      forLoop: () => this.#bounds.forLoop,
      usage: this.#usage,
    };
  }

  /** The refusal of a shedder, if one refuses the call. Critical calls are not shed. */
  #shedNow(call: C, nowMs: number): Refusal | undefined {
    if (call.priority === "critical") return undefined;
    const shed = this.#judge(call, nowMs);
    return shed === undefined ? undefined : this.#refuse(call, "LOAD_SHED", shed, nowMs);
  }

  #judge(call: C, nowMs: number): string | undefined {
    const server = this.#server;
    server.load = this.load;
    server.nowMs = nowMs;
    server.worstWaiting = priorities[this.#waiting.worstRank];
    server.owed = this.#waiting.isOwed(priorityRank[call.priority]);
    this.#judged = call;
    for (const shedder of this.#shedders) {
      const shed = shedder.judge(call, server);
      if (shed !== undefined) return `${shed}, ${this.#occupancy()}`;
    }
    return undefined;
  }

  /**
   * The call may take a slot now: one is free and no call waits ahead of it. Calls can wait while a slot is free: the queue
   * is being served, or what is free is headroom, which only critical calls may use.
   */
  #hasRoom(critical: boolean, nowMs: number): boolean {
    const { size, firstRankWaits } = this.#waiting;
    return (critical ? !firstRankWaits : size === 0) && this.#slots.isFree(critical, nowMs);
  }

  #queue(call: C, nowMs: number, onGranted: OnGranted): GateAnswer {
    const rank = priorityRank[call.priority];
    const maxQueued = this.#bounds.maxQueued;
    let evicted: SemaphoreWaiter<C> | undefined;
    if (this.#waiting.size >= maxQueued) {
      const victim = this.#victim(call, nowMs, maxQueued);
      if (victim === undefined) return this.#full(call);
      this.#waiting.remove(victim);
      evicted = victim.item;
    }
    // Deadlines are noted of calls that run or wait, not of those that are refused.
    this.#latencyTarget.note(call.deadlineMs - nowMs, this.#lateness.usualMs(call.method));
    if (this.#waiting.size === 0) this.#bounds.begin();
    this.#bounds.waits(this.#slots.anyFree);
    const waiter = new SemaphoreWaiter(this.#host, call, nowMs, call.deadlineMs, onGranted);
    const ticket = this.#waiting.push(waiter, rank, nowMs, this.#usageOf(call));
    waiter.wait({ cancel: () => this.#waiting.remove(ticket) });
    // After the call stands in the queue: the evicted call may ask again at once, from inside its callback.
    if (evicted !== undefined) this.#evict(evicted, call.priority);
    return waiter.entered();
  }

  /** The waiting call that is evicted from a full queue for this one; `undefined` when this one is refused. */
  #victim(call: C, nowMs: number, maxQueued: number) {
    if (maxQueued === 0) return undefined;
    const { overflow, maxAgeMs } = this.#options.queue;
    const rank = priorityRank[call.priority];
    return this.#waiting.victim(overflow, rank, nowMs, maxAgeMs, this.#usageOf(call));
  }

  #evict(evicted: SemaphoreWaiter<C>, by: Priority): void {
    const call = evicted.tag;
    const fair = by === call.priority && this.#usage !== undefined;
    const detail = fair
      ? `gave its place to a ${by} call of a caller that has used less`
      : `gave its place to a ${by} call`;
    evicted.refuse(this.#refuse(call, "LOAD_SHED", detail));
  }

  /** The account of the call's caller; `undefined` where callers are not told apart. */
  #usageOf(call: C): CallerUsage | undefined {
    const callerOf = this.#callerOf;
    return callerOf === undefined ? undefined : this.#usage?.of(callerOf(call));
  }

  #heavierWaits(call: C | undefined): boolean {
    // Without a queue full of calls of one caller there is nobody to go first.
    if (call === undefined || this.#options.queue.overflow !== "evict-lowest") return false;
    const usage = this.#waiting.size === 0 ? undefined : this.#usageOf(call);
    return usage !== undefined && this.#waiting.heavierWaits(priorityRank[call.priority], usage);
  }

  /** Gives free slots to the calls that wait. A grant may free a slot at once and come here again: the outermost call goes on. */
  #serve(atMs?: number): void {
    if (this.#serving || this.#waiting.size === 0) return;
    this.#serving = true;
    const nowMs = atMs ?? this.#clock.now();
    for (;;) {
      if (!this.#slots.isFree(this.#waiting.firstRankWaits, nowMs)) {
        if (this.#waiting.size > 0) this.#bounds.waits(this.#slots.anyFree);
        break;
      }
      const overloaded = this.#waiting.overloaded(nowMs);
      const ticket = this.#waiting.shift(nowMs);
      if (ticket === undefined) break;
      const { item, rank, owed } = ticket;
      const refused = this.#tooLate(ticket, nowMs, overloaded);
      if (refused !== undefined) item.refuse(refused);
      else {
        this.#slots.take(nowMs);
        this.#waiting.served(rank, owed);
        item.grant();
      }
    }
    this.#serving = false;
  }

  /** The refusal of a call that waited for a slot and is not worth one any more. */
  #tooLate(
    { item, rank, sinceMs, owed }: QueueTicket<SemaphoreWaiter<C>>,
    nowMs: number,
    overloaded: boolean,
  ): Refusal | undefined {
    const call = item.tag;
    const waitedMs = nowMs - sinceMs;
    const { order, targetMs } = this.#options.queue;
    // In a standing queue, a call that waited for longer than the target has been overtaken and would be late (CoDel's
    // target). A call that is owed its slot has waited behind all others, and keeps it.
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

  #full(call: C): Refusal {
    return this.#refuse(call, "CONCURRENCY_LIMIT", this.#occupancy());
  }

  /** @param caller Who is charged for the slot: somebody else waits for one. */
  #admit(call: C, nowMs: number, caller: CallerUsage | undefined): Permit {
    this.#admitted[call.priority] += 1;
    this.#onAnswer?.(call.priority, false, nowMs);
    if (caller === undefined) return this.#slots.permit(call, nowMs);
    // By what such calls usually take, until it is known what this one took.
    const chargedMs = this.#lateness.usualMs(call.method) ?? unknownUseMs;
    this.#waiting.charge(caller, chargedMs, nowMs);
    return this.#slots.permit(call, nowMs, caller, chargedMs);
  }

  #refuse(
    call: C,
    reason: RefusalReason,
    detail: string,
    nowMs: number = this.#clock.now(),
  ): Refusal {
    this.#refused[call.priority] += 1;
    // A retry does not help a call that has no time left, or one on a server that drains.
    if (reason !== "LOAD_SHED" && reason !== "CONCURRENCY_LIMIT" && reason !== "QUEUE_TIMEOUT") {
      return refusal(reason, detail);
    }
    this.#shed += 1;
    this.#onAnswer?.(call.priority, true, nowMs);
    const queued = this.#waiting.size;
    const atOnce = this.#slots.count;
    const rank = priorityRank[call.priority];
    return refusal(
      reason,
      detail,
      this.#prospects.roundRetryAfterMs({ queued, atOnce, rank }, nowMs),
    );
  }

  #occupancy(): string {
    const { taken, count } = this.#slots;
    return `running ${taken} of ${count}, queued ${this.#waiting.size} of ${this.#bounds.maxQueued}`;
  }
}

type ByPriority = Record<Priority, number>;

/** What admission needs to know of a call. */
export interface AdmissionCall extends ShedCall {
  /** In milliseconds on the monotonic clock, `Infinity` for none. */
  readonly deadlineMs: number;
  /** How long it runs is compared with calls of the same method. @defaultValue all calls count as one method */
  readonly method?: string;
  /** How long its handler usually runs, in milliseconds; 0 where that is not known. */
  readonly neededMs: number;
}

/**
 * Numbers of one pool of slots. `admitted`, `refused` and `left` (calls that left the queue) only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/admission.md
 */
export interface AdmissionSnapshot {
  readonly limit: number;
  readonly maxQueued: number;
  readonly running: number;
  /** Running calls whose callers have left while their handlers go on. */
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
  /** Slots in use now. */
  readonly taken: number;
  /** The time for which slots have been in use, summed over all slots, in milliseconds. */
  readonly takenMs: number;
  /** Calls that were refused for load: by a shedder, for a full queue, or after the longest wait. */
  readonly shed: number;
}

/** Who the callers are, and how long it is remembered what they have used. */
export interface Fairness<C> extends UsageOptions {
  /** The caller of a call. Asked only of calls that wait, or are refused. */
  readonly callerOf: (call: C) => string;
}

/** What an admission is given beside its options. */
export interface AdmissionParts<C = AdmissionCall> {
  /** Asked in their order, before a slot or the queue is. @defaultValue none */
  readonly shedders?: readonly Shedder[];
  /** Notified of each call that is admitted, or refused for load. */
  readonly onAnswer?: ((priority: Priority, shed: boolean, nowMs: number) => void) | undefined;
  /** Is given what an `onGranted` throws. @defaultValue the error is thrown from a task of its own */
  readonly report?: ReportError;
  /** Tells callers apart, so that inside a priority those that have used most go first. @defaultValue all are one */
  readonly fairness?: Fairness<C> | undefined;
}

function zeros(): ByPriority {
  return { critical: 0, high: 0, normal: 0, low: 0 };
}
