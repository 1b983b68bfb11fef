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
 */
export class AdmissionQueue<T> {
  readonly #options: AdmissionQueueOptions;
  readonly #ranks: readonly Rank<T>[];
  #arrivals = 0;
  #emptyMs = Number.NEGATIVE_INFINITY;
  #size = 0;

  constructor(options: AdmissionQueueOptions) {
    this.#options = options;
    this.#ranks = Array.from({ length: options.ranks }, () => new Rank<T>());
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

  push(item: T, rank: number, nowMs: number): QueueTicket<T> {
    if (this.#size === 0) this.#emptyMs = nowMs;
    this.#arrivals += 1;
    const node = new Node(item, rank, nowMs, this.#arrivals);
    this.#ranks[rank]?.append(node);
    this.#size += 1;
    return node;
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
    return this.#size > 0 && nowMs - this.#emptyMs > this.#options.intervalMs();
  }

  /**
   * The call that is evicted from a full queue for a new one; `undefined` when the new one is refused.
   *
   * - A call of the first rank is never evicted.
   * - A new call of the first rank evicts a call of any other rank.
   * - A call that is owed a slot is evicted for the first rank only.
   * - A new call that is owed a slot evicts any call that is neither owed one nor of the first rank.
   * - Otherwise the overflow policy decides.
   */
  victim(
    policy: OverflowPolicy,
    rank: number,
    nowMs: number,
    maxAgeMs: number,
  ): QueueTicket<T> | undefined {
    const found = this.#byPolicy(policy, rank, nowMs, maxAgeMs);
    if (found !== undefined) return found;
    if (rank > 0) return this.isOwed(rank) ? this.#worse(0) : undefined;
    return this.#worse(0) ?? this.#worse(0, true);
  }

  #byPolicy(
    policy: OverflowPolicy,
    rank: number,
    nowMs: number,
    maxAgeMs: number,
  ): Node<T> | undefined {
    switch (policy) {
      case "evict-lowest":
        return this.#worse(rank);
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
    const critical = this.#ranks[0]?.first;
    if (critical !== undefined) return critical;
    const { order } = this.#options;
    if (order === "fifo") return this.#oldest();
    const best = this.#ranks.find(({ first }) => first !== undefined);
    // The best rank is next anyway.
    const owed = this.#ranks.find((rank) => rank !== best && rank.size > 0 && rank.slotsOwed > 0);
    const chosen = owed ?? best;
    const newest = order === "adaptive-lifo" && this.overloaded(nowMs);
    const next = newest ? chosen?.last : chosen?.first;
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

  /** The newest call of the worst rank that is worse than `rank`: of calls that are owed no slot, or of `all`. */
  #worse(rank: number, all = false): Node<T> | undefined {
    for (let worst = this.#ranks.length - 1; worst > rank; worst -= 1) {
      const newest = all ? this.#ranks[worst]?.last : this.#ranks[worst]?.newestToGo;
      if (newest !== undefined) return newest;
    }
    return undefined;
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
  before: Node<T> | undefined;
  after: Node<T> | undefined;

  constructor(item: T, rank: number, sinceMs: number, arrival: number) {
    this.item = item;
    this.rank = rank;
    this.sinceMs = sinceMs;
    this.arrival = arrival;
  }
}

/** The waiting calls of one rank, by arrival. */
class Rank<T> {
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
  }

  remove(node: Node<T>): void {
    const { before, after } = node;
    if (before === undefined) this.first = after;
    else before.after = after;
    if (after === undefined) this.last = before;
    else after.before = before;
    this.size -= 1;
  }
}
