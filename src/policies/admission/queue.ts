import type { CallerUsage, UsageByCaller } from "./usage.js";

/** In which order waiting calls are served. See {@link AdmissionQueue}. */
export type QueueOrder = (typeof queueOrders)[number];

export const queueOrders = ["priority", "fifo", "adaptive-lifo"] as const;

/** Which call is refused when the queue is full. See `QueueOptions.overflow`. */
export type OverflowPolicy = (typeof overflowPolicies)[number];

export const overflowPolicies = [
  "evict-lowest",
  "reject-new",
  "drop-oldest",
  "drop-newest",
  "age-out",
] as const;

export interface AdmissionQueueOptions {
  readonly order: QueueOrder;
  /** How many ranks there are; 0 is served first. */
  readonly ranks: number;
  /** Share of all slots that each rank but the first is owed: from 0 to below 1 over the number of ranks. 0 for none. */
  readonly minShare: number;
  /** A queue that has not been empty for so long, in milliseconds, is a standing queue. */
  readonly intervalMs: () => number;
  /**
   * Calls wait for the event loop alone. Then the queue is a standing one when a call has waited for `intervalMs`, until it is
   * empty, and before that all but the first rank are served by arrival. @defaultValue never
   */
  readonly forLoop?: () => boolean;
  /** What callers have used of late, for a queue that is fair by use. @defaultValue callers are not told apart */
  readonly usage?: UsageByCaller | undefined;
}

/** The place of one call in the queue. */
export interface QueueTicket<T> {
  readonly item: T;
  readonly rank: number;
  /** When it was queued, in milliseconds on the monotonic clock. */
  readonly sinceMs: number;
  /** It was served before calls of better ranks, because its rank was owed a slot. */
  readonly owed: boolean;
}

/** The most slots that a rank may be owed, so that after a long rush of better calls worse ones do not all go first. */
const mostOwed = 2;
/** Shares are added up in floating point: a sum may be slightly below the whole number that it stands for. */
const rounding = 1e-9;

/**
 * The calls that wait for a slot. Every order and every overflow policy finds its call in constant time, and a call leaves
 * from any place. The first rank is served before all others, whatever the order. Among the others:
 *
 * - `priority`: the best rank first, and by arrival inside a rank;
 * - `fifo`: by arrival;
 * - `adaptive-lifo`: like `priority`, but in a standing queue the newest call of a rank first. The oldest has little time
 *   left, and in order of arrival all would be late (Facebook, "Fail at Scale", ACM Queue 2015).
 *
 * A steady load of better calls would starve the worse ranks (see Kubernetes API Priority and Fairness). So each rank but
 * the first is owed a small share of all slots (`minShare`). The share adds up while none of the rank waits, too, because
 * its callers may come back after a refusal. Slots that the rank gets anyway are taken off. A rank that is owed a whole slot
 * has these rights, for one call each:
 *
 * - it finds a place in a full queue;
 * - only the first rank can evict it;
 * - it gets the next slot that the first rank does not take.
 *
 * Where callers are told apart, the caller that has used least is next inside a rank, and `evict-lowest` evicts a call of the
 * one that has used most: in place of a new call of the same rank too, if that is of a caller that has used less. The first
 * rank is still never evicted, and `fifo` stays the order of arrival.
 */
export class AdmissionQueue<T> {
  #options: AdmissionQueueOptions;
  readonly #ranks: readonly Rank<T>[];
  #arrivals = 0;
  #emptyMs = Number.NEGATIVE_INFINITY;
  /** A call has waited for too long for the event loop since the queue was empty. */
  #late = false;
  #size = 0;

  constructor(options: AdmissionQueueOptions) {
    this.#options = options;
    this.#ranks = Array.from({ length: options.ranks }, () => new Rank<T>());
  }

  /** Goes on with other options, but as many ranks. Calls that wait keep their places. */
  reconfigure(options: AdmissionQueueOptions): void {
    this.#options = options;
  }

  get size(): number {
    return this.#size;
  }

  /** How many calls of a rank wait. */
  waiting(rank: number): number {
    return this.#ranks[rank]?.size ?? 0;
  }

  /** A call of the first rank waits. */
  get firstRankWaits(): boolean {
    return this.#ranks[0]?.first !== undefined;
  }

  /** The worst rank that waits; -1 when the queue is empty. */
  get worstRank(): number {
    if (this.#size === 0) return -1;
    let rank = this.#ranks.length - 1;
    while (rank >= 0 && this.#ranks[rank]?.first === undefined) rank -= 1;
    return rank;
  }

  /** @param caller Of a queue that is fair by use: whose call it is. */
  push(item: T, rank: number, nowMs: number, caller?: CallerUsage): QueueTicket<T> {
    if (this.#size === 0) {
      this.#emptyMs = nowMs;
      this.#late = false;
    }
    this.#arrivals += 1;
    const node = new Node(item, rank, nowMs, this.#arrivals, caller);
    this.#ranks[rank]?.append(node);
    this.#size += 1;
    return node;
  }

  /** A caller has used so many milliseconds of a slot; fewer than 0 where it was charged too much before. */
  charge(caller: CallerUsage, ms: number, nowMs: number): void {
    const { usage } = this.#options;
    // Its calls change their place in the order.
    if (caller.waiting > 0) for (const rank of this.#ranks) rank.callers.lift(caller);
    usage?.charge(caller, ms, nowMs);
    if (caller.waiting > 0) for (const rank of this.#ranks) rank.callers.place(caller);
  }

  /** A call of a rank waits whose caller has used more than this one. */
  heavierWaits(rank: number, caller: CallerUsage): boolean {
    return this.#ranks[rank]?.callers.most?.usage.outweighs(caller) === true;
  }

  /** Takes a call out. False when it is out already. */
  remove(ticket: QueueTicket<T>): boolean {
    if (!(ticket instanceof Node) || !ticket.waits) return false;
    const node: Node<T> = ticket;
    node.waits = false;
    this.#ranks[node.rank]?.remove(node);
    this.#size -= 1;
    return true;
  }

  /** The next call of the rank that comes is owed a slot: the rank is owed more than it has calls in the queue. */
  isOwed(rank: number): boolean {
    const one = this.#ranks[rank];
    return one !== undefined && one.slotsOwed > one.size;
  }

  /**
   * A call of a rank was given a slot, after a wait or at once. Every worse rank is owed a share of it. Of a slot that was
   * `owed` itself all ranks but the first are, so that each has its share of all slots.
   */
  served(rank: number, owed = false): void {
    const { minShare, order } = this.#options;
    if (minShare === 0) return;
    for (let other = owed ? 1 : rank + 1; other < this.#ranks.length; other += 1) {
      const one = this.#ranks[other];
      if (one === undefined) continue;
      // In `fifo` order a rank cannot be served ahead of its turn, so it may be owed a slot for each call that waits.
      const most = order === "fifo" ? mostOwed + one.size : mostOwed;
      one.owed = Math.min(most, one.owed + minShare);
    }
    const one = this.#ranks[rank];
    if (one !== undefined) one.owed = Math.max(0, one.owed - 1);
  }

  /** Takes out the call that is next; `undefined` when the queue is empty. Call `served` if the call is given a slot. */
  shift(nowMs: number): QueueTicket<T> | undefined {
    const next = this.#next(nowMs);
    if (next !== undefined) this.remove(next);
    return next;
  }

  /** The queue has not been empty for `intervalMs`: it is a standing queue and no burst (CoDel, RFC 8289). */
  overloaded(nowMs: number): boolean {
    if (this.#size === 0) return false;
    const intervalMs = this.#options.intervalMs();
    if (this.#options.forLoop?.() !== true) return nowMs - this.#emptyMs > intervalMs;
    const sinceMs = this.#oldest()?.sinceMs ?? nowMs;
    this.#late ||= nowMs - sinceMs > intervalMs;
    return this.#late;
  }

  /**
   * The call that is evicted from a full queue for a new one; `undefined` when the new one is refused.
   *
   * - A call of the first rank is never evicted.
   * - A new call of the first rank evicts a call of any other rank.
   * - A call that is owed a slot is evicted for the first rank only. Which calls of a rank these are is decided by arrival,
   *   and by use where callers are told apart: then it is so many of its calls, of whichever callers.
   * - A new call that is owed a slot evicts any call that is neither owed one nor of the first rank.
   * - Otherwise the overflow policy decides.
   */
  victim(
    policy: OverflowPolicy,
    rank: number,
    nowMs: number,
    maxAgeMs: number,
    caller?: CallerUsage,
  ): QueueTicket<T> | undefined {
    const found = this.#byPolicy(policy, rank, nowMs, maxAgeMs, caller);
    if (found !== undefined) return found;
    if (rank > 0) return this.isOwed(rank) ? this.#worse(0) : undefined;
    return this.#worse(0) ?? this.#worse(0, true);
  }

  #byPolicy(
    policy: OverflowPolicy,
    rank: number,
    nowMs: number,
    maxAgeMs: number,
    caller: CallerUsage | undefined,
  ): Node<T> | undefined {
    switch (policy) {
      case "evict-lowest":
        return this.#worse(rank) ?? this.#heavier(rank, caller);
      case "drop-oldest":
        return this.#extreme(({ oldestToGo }) => oldestToGo, isBefore);
      case "drop-newest":
        return this.#extreme(({ newestToGo }) => newestToGo, isAfter);
      case "age-out": {
        const oldest = this.#extreme(({ oldestToGo }) => oldestToGo, isBefore);
        const isOld = oldest !== undefined && nowMs - oldest.sinceMs >= maxAgeMs;
        return isOld ? oldest : undefined;
      }
      case "reject-new":
        return undefined;
      default:
        return policy satisfies never;
    }
  }

  #next(nowMs: number): Node<T> | undefined {
    const { order } = this.#options;
    const critical = this.#ranks[0];
    if (critical?.first !== undefined) {
      return order === "fifo" ? critical.first : critical.next(false);
    }
    const overloaded = this.overloaded(nowMs);
    // While all can be served in time, a worse rank would lose by the order, and no better one wins.
    if (order === "fifo" || (!overloaded && this.#options.forLoop?.() === true)) {
      return this.#oldest();
    }
    const best = this.#ranks.find(({ first }) => first !== undefined);
    // The best rank is next anyway.
    const owed = this.#ranks.find((rank) => rank !== best && rank.size > 0 && rank.slotsOwed > 0);
    const chosen = owed ?? best;
    const newest = order === "adaptive-lifo" && overloaded;
    const next = chosen?.next(newest);
    if (next !== undefined) next.owed = owed !== undefined;
    return next;
  }

  /** The call that has waited longest, of all ranks but the first. */
  #oldest(): Node<T> | undefined {
    return this.#extreme(({ first }) => first, isBefore);
  }

  /** Finds one call in each rank but the first, and answers the one of them that `comesBefore` all others. */
  #extreme(
    find: (rank: Rank<T>) => Node<T> | undefined,
    comesBefore: (one: Node<T>, other: Node<T>) => boolean,
  ): Node<T> | undefined {
    let extreme: Node<T> | undefined;
    for (let rank = 1; rank < this.#ranks.length; rank += 1) {
      const one = this.#ranks[rank];
      const found = one === undefined ? undefined : find(one);
      if (found !== undefined && (extreme === undefined || comesBefore(found, extreme))) {
        extreme = found;
      }
    }
    return extreme;
  }

  /**
   * The newest call of the worst rank that is worse than `rank`, and there of the caller that has used most: of ranks that
   * have more calls than they are owed slots, or of `all`.
   */
  #worse(rank: number, all = false): Node<T> | undefined {
    for (let worst = this.#ranks.length - 1; worst > rank; worst -= 1) {
      const one = this.#ranks[worst];
      const newest =
        all || (one !== undefined && one.size > one.slotsOwed) ? one?.lastToGo : undefined;
      if (newest !== undefined) return newest;
    }
    return undefined;
  }

  /** The newest call of the rank's heaviest caller, if that has used more than this one. The first rank gives up none. */
  #heavier(rank: number, caller: CallerUsage | undefined): Node<T> | undefined {
    if (rank === 0 || caller === undefined || !this.heavierWaits(rank, caller)) return undefined;
    return this.#ranks[rank]?.lastToGo;
  }
}

function isBefore<T>(one: Node<T>, other: Node<T>): boolean {
  return one.arrival < other.arrival;
}

function isAfter<T>(one: Node<T>, other: Node<T>): boolean {
  return one.arrival > other.arrival;
}

class Node<T> implements QueueTicket<T> {
  readonly item: T;
  readonly rank: number;
  readonly sinceMs: number;
  readonly arrival: number;
  waits = true;
  owed = false;
  readonly caller: CallerUsage | undefined;
  before: Node<T> | undefined;
  after: Node<T> | undefined;
  /** Its neighbours among the calls of its caller. */
  beforeOfCaller: Node<T> | undefined;
  afterOfCaller: Node<T> | undefined;

  constructor(
    item: T,
    rank: number,
    sinceMs: number,
    arrival: number,
    caller: CallerUsage | undefined,
  ) {
    this.item = item;
    this.rank = rank;
    this.sinceMs = sinceMs;
    this.arrival = arrival;
    this.caller = caller;
  }
}

/** The calls of one caller that wait in one rank, by arrival. */
class CallerLine<T> {
  readonly usage: CallerUsage;
  first: Node<T> | undefined;
  last: Node<T> | undefined;

  constructor(usage: CallerUsage) {
    this.usage = usage;
  }

  append(node: Node<T>): void {
    node.beforeOfCaller = this.last;
    if (this.last === undefined) this.first = node;
    else this.last.afterOfCaller = node;
    this.last = node;
  }

  remove({ beforeOfCaller: before, afterOfCaller: after }: Node<T>): void {
    if (before === undefined) this.first = after;
    else before.afterOfCaller = after;
    if (after === undefined) this.last = before;
    else after.beforeOfCaller = before;
  }
}

/** The callers whose calls wait in one rank, by what they have used. A place is found in a logarithmic number of steps. */
class CallersByUse<T> {
  readonly #lines = new Map<CallerUsage, CallerLine<T>>();
  readonly #byUse: CallerLine<T>[] = [];

  /** The caller that has used least. */
  get least(): CallerLine<T> | undefined {
    return this.#byUse[0];
  }

  /** The caller that has used most. */
  get most(): CallerLine<T> | undefined {
    return this.#byUse.at(-1);
  }

  append(node: Node<T>, caller: CallerUsage): void {
    caller.waiting += 1;
    let line = this.#lines.get(caller);
    if (line === undefined) {
      line = new CallerLine(caller);
      this.#lines.set(caller, line);
      this.place(caller);
    }
    line.append(node);
  }

  remove(node: Node<T>, caller: CallerUsage): void {
    caller.waiting -= 1;
    const line = this.#lines.get(caller);
    line?.remove(node);
    if (line === undefined || line.first !== undefined) return;
    this.lift(caller);
    this.#lines.delete(caller);
  }

  /** Takes a caller out of the order, before what it has used changes. */
  lift(caller: CallerUsage): void {
    const line = this.#lines.get(caller);
    if (line === undefined) return;
    const place = this.#placeOf(caller);
    // What was used more than a thousand half-lives ago is 0 in floating point, and such callers are no longer in order.
    const found = this.#byUse[place] === line ? place : this.#byUse.indexOf(line);
    if (found >= 0) this.#byUse.splice(found, 1);
  }

  /** Puts a caller that was lifted at its place. */
  place(caller: CallerUsage): void {
    const line = this.#lines.get(caller);
    if (line !== undefined) this.#byUse.splice(this.#placeOf(caller), 0, line);
  }

  #placeOf(caller: CallerUsage): number {
    let from = 0;
    let to = this.#byUse.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      const usage = this.#byUse[middle]?.usage;
      if (usage !== undefined && usage.compare(caller) < 0) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}

/** The waiting calls of one rank, by arrival, and by caller where callers are told apart. */
class Rank<T> {
  readonly callers = new CallersByUse<T>();
  first: Node<T> | undefined;
  last: Node<T> | undefined;
  size = 0;
  /** How many slots it is owed, fractions included. */
  owed = 0;

  /** Whole slots that it is owed: its oldest calls, so many, cannot be evicted. */
  get slotsOwed(): number {
    return Math.floor(this.owed + rounding);
  }

  /** The oldest call that can be evicted. */
  get oldestToGo(): Node<T> | undefined {
    let kept = this.slotsOwed;
    let node = this.first;
    for (; kept > 0; kept -= 1) node = node?.after;
    return node;
  }

  /** The call that is next: the oldest, or the newest, of all or of the caller that has used least. */
  next(newest: boolean): Node<T> | undefined {
    // Calls that came before callers were told apart come first.
    const line = (this.first?.caller === undefined ? undefined : this.callers.least) ?? this;
    return newest ? line.last : line.first;
  }

  /** The call that is the first to be evicted: the newest, of all or of the caller that has used most. */
  get lastToGo(): Node<T> | undefined {
    return (this.callers.most ?? this).last;
  }

  /** The newest call that can be evicted. */
  get newestToGo(): Node<T> | undefined {
    return this.size > this.slotsOwed ? this.last : undefined;
  }

  append(node: Node<T>): void {
    node.before = this.last;
    if (this.last === undefined) this.first = node;
    else this.last.after = node;
    this.last = node;
    this.size += 1;
    if (node.caller !== undefined) this.callers.append(node, node.caller);
  }

  remove(node: Node<T>): void {
    if (node.caller !== undefined) this.callers.remove(node, node.caller);
    const { before, after } = node;
    if (before === undefined) this.first = after;
    else before.after = after;
    if (after === undefined) this.last = before;
    else after.before = before;
    this.size -= 1;
  }
}
