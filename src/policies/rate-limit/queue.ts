import type { CancelTask, Clock } from "../../core/clock.js";
import type { OnGranted, Permit, Refusal } from "../../core/permit.js";
import { PriorityQueue, type QueueHandle } from "../../core/queue/priority-queue.js";
import { QueuedCall, type QueueHost } from "../../core/queue/waiting-call.js";
import type { Granted, PendingTake, Short, StoreAnswer } from "./store-access.js";

/** What a queue needs from the limit it belongs to. */
export interface RateQueueHost {
  readonly clock: Clock;
  readonly ratePerSecond: number;
  /** How long a store is left alone at least, that was asked for the same call so many times in vain. */
  pauseMs(askedInVain: number): number;
  take(cost: number, nowMs: number): StoreAnswer | PendingTake;
  /** Puts tokens back that the store granted to one that could use them no more. */
  giveBack(cost: number): void;
  /** The tokens come too late for one that waits, or its deadline has passed. It is out of the queue already. */
  refuse(waiter: RateWaiter, short: Short | "expired", nowMs: number): void;
  /** Nobody waits any more. `kept`: the tokens that came back meanwhile. */
  emptied(kept: number): void;
}

/**
 * The calls of one key that wait for tokens: best rank first, by arrival inside a rank. Only the first asks, when its
 * tokens are due; nobody holds tokens while it waits, so one that leaves has nothing to give back, and those behind
 * it move up.
 */
export class RateQueue {
  readonly #host: RateQueueHost;
  readonly #waiters = new PriorityQueue<RateWaiter>();
  readonly #costs = new Map<number, number>();
  /** When the tokens of the first are due, as far as is known. */
  #dueMs = 0;
  #stopTimer: CancelTask | undefined;
  /** Whoever was first when the store was asked, and what the store has yet to answer. */
  #asking: { readonly waiter: RateWaiter; readonly take: PendingTake } | undefined;
  #serving = false;
  #kept = 0;
  /** How often in a row the store was asked for whoever is first, and had not enough. */
  #inVain = 0;

  constructor(host: RateQueueHost) {
    this.#host = host;
  }

  get size(): number {
    return this.#waiters.size;
  }

  /** Somebody waits before whom a call of this rank must not go. */
  holdsBack(rank: number): boolean {
    const first = this.#waiters.first();
    return first !== undefined && first.rank <= rank;
  }

  /** After how many milliseconds a call that is held back would have its tokens, if nobody better comes. */
  waitBehind(rank: number, cost: number, nowMs: number): number {
    let tokens = cost - (this.#waiters.first()?.item.request.cost ?? 0);
    for (const [of, sum] of this.#costs) if (of <= rank) tokens += sum;
    return Math.max(0, this.#dueMs - nowMs) + (tokens * 1_000) / this.#host.ratePerSecond;
  }

  /** @param dueMs When its own tokens are due, for a call that nobody holds back. */
  add(waiter: RateWaiter, dueMs: number, nowMs: number): void {
    const { rank } = waiter.request;
    waiter.place = this.#waiters.push(waiter, rank);
    this.#count(waiter, 1);
    if (this.#waiters.first()?.item === waiter) this.#arm(dueMs, nowMs);
  }

  /** Takes a call out. Those behind it move up. */
  remove(waiter: RateWaiter): void {
    const asking = waiter === this.#asking?.waiter;
    const first = this.#waiters.first()?.item === waiter;
    this.#takeOut(waiter);
    if (asking) this.#abandon();
    if (asking || first) this.serve();
  }

  /** Tokens have come back that make nobody's turn come sooner. */
  keep(cost: number): void {
    this.#kept += cost;
  }

  /** Lets through whoever has its tokens now. */
  serve(): void {
    // Whoever is served may come back at once, or make another leave: the outermost call serves them all.
    if (this.#serving) return;
    this.#serving = true;
    while (this.#asking === undefined && this.#serveFirst());
    this.#serving = false;
    if (this.#waiters.size > 0) return;
    this.#stopTimer?.();
    this.#stopTimer = undefined;
    const kept = this.#kept;
    this.#kept = 0;
    this.#host.emptied(kept);
  }

  /** Takes everybody out, the first to be served first. */
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

  /** False when nobody is there, or the first has to wait. */
  #serveFirst(): boolean {
    const first = this.#waiters.first()?.item;
    if (first === undefined) return false;
    const nowMs = this.#host.clock.now();
    if (first.request.deadlineMs <= nowMs) {
      // Its timer is late: nobody would use the tokens.
      this.#takeOut(first);
      this.#host.refuse(first, "expired", nowMs);
      return true;
    }
    const answer = this.#host.take(first.request.cost, nowMs);
    if (answer.kind !== "pending") return this.#answered(first, answer, nowMs);
    this.#asking = { waiter: first, take: answer };
    answer.listen((late) => {
      this.#asking = undefined;
      if (this.#answered(first, late, this.#host.clock.now())) this.serve();
    });
    return false;
  }

  /** False when the first has to wait. */
  #answered(waiter: RateWaiter, answer: StoreAnswer, nowMs: number): boolean {
    if (answer.kind === "granted") {
      this.#takeOut(waiter);
      if (waiter.request.deadlineMs <= nowMs) {
        // The answer was slow, and the timer of the call is late.
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
    // A better one may have come while the store was asked.
    if (this.#waiters.first()?.item !== waiter) return true;
    this.#arm(dueMs, nowMs);
    return false;
  }

  /** Whoever is first was asked for, and is asked for again when its tokens are due: not at once, whatever a store says. */
  #arm(saidMs: number, nowMs: number): void {
    this.#stopTimer?.();
    this.#inVain += 1;
    const dueMs = Math.max(saidMs, nowMs + this.#host.pauseMs(this.#inVain));
    this.#dueMs = dueMs;
    this.#stopTimer = this.#host.clock.schedule(dueMs - nowMs, () => this.serve());
  }

  #takeOut(waiter: RateWaiter): void {
    if (waiter.place === undefined) return;
    if (this.#waiters.first()?.item === waiter) this.#inVain = 0;
    this.#waiters.remove(waiter.place);
    waiter.place = undefined;
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
  /** The lower, the sooner it is served. */
  readonly rank: number;
  /** On the monotonic clock, `Infinity` for none. */
  readonly deadlineMs: number;
  readonly onGranted: OnGranted;
}

/** Who decides about those that wait. */
export interface RateWaiterHost extends QueueHost {
  /** One is let through. The result is what it holds. */
  admitted(request: RateRequest, granted: Granted): Permit;
  refused(): void;
  /** It can wait no longer: the deadline has passed, or else its longest wait. */
  waitedOut(waiter: RateWaiter, nowMs: number): void;
  left(waiter: RateWaiter): void;
}

/** A call that waits for the answer of a store, or for its tokens. */
export class RateWaiter extends QueuedCall {
  readonly request: RateRequest;
  /** Its place among those that wait for tokens. */
  place: QueueHandle<RateWaiter> | undefined;
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
