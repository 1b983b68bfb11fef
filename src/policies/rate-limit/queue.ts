import type { CancelTask, Clock } from "../../core/clock.js";
import type { OnGranted, Permit, Refusal } from "../../core/permit.js";
import { PriorityQueue, type QueueHandle } from "../../core/queue/priority-queue.js";
import { QueuedCall, type QueueHost } from "../../core/queue/waiting-call.js";
import type { Granted, PendingTake, Short, StoreAnswer } from "./store-access.js";

/** What the queue of one key needs of its rate limit. */
export interface RateQueueHost {
  readonly clock: Clock;
  /** The shortest time, in milliseconds, before a store is asked again that had too few tokens `timesInVain` times in a row. */
  pauseMs(timesInVain: number): number;
  take(cost: number, nowMs: number): StoreAnswer | PendingTake;
  /** Puts back tokens that were granted to a call whose deadline had passed. */
  giveBack(cost: number): void;
  /** The tokens come too late for a call, or its deadline has passed. The call is out of the queue already. */
  refuse(waiter: RateWaiter, short: Short | "expired", nowMs: number): void;
  /** The queue is empty. `kept`: tokens that came back meanwhile, see {@link RateQueue.keep}. */
  emptied(kept: number): void;
}

/**
 * The calls of one key that wait for tokens: best rank first, and by arrival inside a rank. Only the first call asks the
 * store, when its tokens are due. No call holds tokens while it waits, so one that leaves gives nothing back, and the calls
 * behind it move up.
 */
export class RateQueue {
  readonly #host: RateQueueHost;
  #ratePerSecond: number;
  readonly #waiters = new PriorityQueue<RateWaiter>();
  /** The tokens that the waiting calls of each rank need. */
  readonly #costs = new Map<number, number>();
  /** When the tokens of the first call are due, as far as is known, in milliseconds on the monotonic clock. */
  #dueMs = 0;
  #stopTimer: CancelTask | undefined;
  /** The call for which a store has been asked that has not answered yet. It was the first then. */
  #asking: { readonly waiter: RateWaiter; readonly take: PendingTake } | undefined;
  #serving = false;
  #kept = 0;
  /** How often in a row the store had too few tokens for the first call. */
  #timesInVain = 0;

  constructor(host: RateQueueHost, ratePerSecond: number) {
    this.#host = host;
    this.#ratePerSecond = ratePerSecond;
  }

  /** Tokens are added at another rate from now on. */
  reconfigure(ratePerSecond: number): void {
    this.#ratePerSecond = ratePerSecond;
    this.serve();
  }

  get size(): number {
    return this.#waiters.size;
  }

  /** How many calls of a rank wait. */
  waiting(rank: number): number {
    return this.#waiters.countOf(rank);
  }

  /** A call waits that a new one of this rank must not overtake. */
  holdsBack(rank: number): boolean {
    const first = this.#waiters.first();
    return first !== undefined && first.rank <= rank;
  }

  /** The time in milliseconds until a new call that is held back would have its tokens, if no better call comes. */
  waitBehind(rank: number, cost: number, nowMs: number): number {
    let tokens = cost - (this.#waiters.first()?.item.request.cost ?? 0);
    for (const [of, sum] of this.#costs) if (of <= rank) tokens += sum;
    return Math.max(0, this.#dueMs - nowMs) + (tokens * 1_000) / this.#ratePerSecond;
  }

  /** @param dueMs When the tokens of the call are due, if no other call holds it back. */
  add(waiter: RateWaiter, dueMs: number, nowMs: number): void {
    const { rank } = waiter.request;
    waiter.handle = this.#waiters.push(waiter, rank);
    this.#count(waiter, 1);
    if (this.#waiters.first()?.item === waiter) this.#arm(dueMs, nowMs);
  }

  /** Takes a call out. The calls behind it move up. */
  remove(waiter: RateWaiter): void {
    const asking = waiter === this.#asking?.waiter;
    const first = this.#waiters.first()?.item === waiter;
    this.#takeOut(waiter);
    if (asking) this.#abandon();
    if (asking || first) this.serve();
  }

  /** Keeps tokens that came back until the queue is empty: they must not let a waiting call go on sooner. */
  keep(cost: number): void {
    this.#kept += cost;
  }

  /** Lets the calls go on whose tokens are there. */
  serve(): void {
    // A call that is served may queue again at once, or make another one leave: the outermost `serve` goes on with them.
    if (this.#serving) return;
    this.#serving = true;
    while (this.#asking === undefined && this.#serveFirst());
    this.#serving = false;
    if (this.#waiters.size > 0) return;
    this.#stopTimer?.();
    const kept = this.#kept;
    this.#kept = 0;
    this.#host.emptied(kept);
  }

  /** Takes all calls out, in the order in which they would be served. */
  clear(): RateWaiter[] {
    const waiters: RateWaiter[] = [];
    for (;;) {
      const waiter = this.#waiters.first()?.item;
      if (waiter === undefined) break;
      waiters.push(waiter);
      this.#takeOut(waiter);
    }
    this.#abandon();
    this.serve();
    return waiters;
  }

  #abandon(): void {
    this.#asking?.take.abandon();
    this.#asking = undefined;
  }

  /** False when the queue is empty or its first call has to wait. */
  #serveFirst(): boolean {
    const first = this.#waiters.first()?.item;
    if (first === undefined) return false;
    const nowMs = this.#host.clock.now();
    if (first.request.deadlineMs <= nowMs) {
      // The timer of the call is late. It would not use its tokens.
      this.#takeOut(first);
      this.#host.refuse(first, "expired", nowMs);
      return true;
    }
    const answer = this.#host.take(first.request.cost, nowMs);
    if (answer.kind !== "pending") return this.#answered(first, answer, nowMs);
    this.#asking = { waiter: first, take: answer };
    answer.onAnswer((late) => {
      this.#asking = undefined;
      if (this.#answered(first, late, this.#host.clock.now())) this.serve();
    });
    return false;
  }

  /** False when the first call has to wait. */
  #answered(waiter: RateWaiter, answer: StoreAnswer, nowMs: number): boolean {
    if (answer.kind === "granted") {
      this.#takeOut(waiter);
      if (waiter.request.deadlineMs <= nowMs) {
        // The deadline passed while the store was asked, and the timer of the call is late.
        if (answer.taken) this.#host.giveBack(waiter.request.cost);
        this.#host.refuse(waiter, "expired", nowMs);
        return true;
      }
      waiter.admit(answer, nowMs);
      return true;
    }
    const dueMs = nowMs + answer.retryAfterMs;
    if (answer.failed === true || dueMs > waiter.untilMs) {
      this.#takeOut(waiter);
      this.#host.refuse(waiter, answer, nowMs);
      return true;
    }
    // A better call may have come while the store was asked.
    if (this.#waiters.first()?.item !== waiter) return true;
    this.#arm(dueMs, nowMs);
    return false;
  }

  /** Asks for the first call again when its tokens are due, by `answeredMs` of the store, and after a pause at the soonest. */
  #arm(answeredMs: number, nowMs: number): void {
    this.#stopTimer?.();
    this.#timesInVain += 1;
    const dueMs = Math.max(answeredMs, nowMs + this.#host.pauseMs(this.#timesInVain));
    this.#dueMs = dueMs;
    this.#stopTimer = this.#host.clock.schedule(dueMs - nowMs, () => this.serve());
  }

  #takeOut(waiter: RateWaiter): void {
    if (waiter.handle === undefined) return;
    if (this.#waiters.first()?.item === waiter) this.#timesInVain = 0;
    this.#waiters.remove(waiter.handle);
    waiter.handle = undefined;
    this.#count(waiter, -1);
  }

  #count({ request: { rank, cost } }: RateWaiter, sign: 1 | -1): void {
    this.#costs.set(rank, (this.#costs.get(rank) ?? 0) + sign * cost);
  }
}

/** A call that asks for tokens. */
export interface RateRequest {
  readonly key: string;
  readonly cost: number;
  /** Lower ranks are served first. */
  readonly rank: number;
  /** In milliseconds on the monotonic clock, `Infinity` for none. */
  readonly deadlineMs: number;
  readonly onGranted: OnGranted;
}

/** What a rate limit does for a call that waits. */
export interface RateWaiterHost extends QueueHost {
  /** The call goes on. Makes its permit. */
  admitted(request: RateRequest, granted: Granted): Permit;
  /** The call is refused. */
  refused(): void;
  /** The call has reached its deadline or its longest wait. */
  waitedOut(waiter: RateWaiter, nowMs: number): void;
  /** The call was cancelled. */
  left(waiter: RateWaiter): void;
}

/** A call that waits for the answer of a store, or for its tokens. */
export class RateWaiter extends QueuedCall {
  readonly request: RateRequest;
  /** Set while the call stands in the queue for tokens. */
  handle: QueueHandle<RateWaiter> | undefined;
  readonly #host: RateWaiterHost;

  constructor(host: RateWaiterHost, request: RateRequest, nowMs: number) {
    super(host, nowMs, request.deadlineMs, request.onGranted);
    this.#host = host;
    this.request = request;
  }

  admit(granted: Granted, nowMs: number): void {
    if (this.finish()) this.deliver(this.#host.admitted(this.request, granted), nowMs);
  }

  override refuse(refusal: Refusal, nowMs: number): void {
    if (!this.over) this.#host.refused();
    super.refuse(refusal, nowMs);
  }

  protected timeUp(nowMs: number): void {
    this.#host.waitedOut(this, nowMs);
  }

  protected left(): void {
    this.#host.left(this);
  }
}
