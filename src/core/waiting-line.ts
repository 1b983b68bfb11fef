/** How those who wait are served. */
export type QueueOrder = (typeof queueOrders)[number];

export const queueOrders = ["priority", "fifo", "adaptive-lifo"] as const;

/** Who gives way when the line is full. */
export type OverflowPolicy = (typeof overflowPolicies)[number];

export const overflowPolicies = [
  "evict-lowest",
  "reject-new",
  "drop-oldest",
  "drop-newest",
  "age-out",
] as const;

export interface WaitingLineOptions {
  readonly order: QueueOrder;
  /** How many ranks there are; 0 is served first. */
  readonly ranks: number;
  /** Share of the turns that each rank but the first is owed while it waits. From 0 to below 1 over their number. */
  readonly minShare: number;
  /** For `adaptive-lifo`: a line that has not been empty for so long is overloaded. */
  readonly intervalMs: number;
}

/** A place in the line. */
export interface LinePlace<T> {
  readonly item: T;
  readonly rank: number;
  readonly sinceMs: number;
}

/**
 * Those who wait for a turn. Every order and every overflow policy finds its call in constant time, and a call that
 * leaves takes nobody's place with it. The first rank is served before all others, whatever the order; among those:
 *
 * - `priority`: the best rank first, by arrival inside it. The worse ranks get a small share of the turns, or a
 *   steady load of better calls would starve them (Kubernetes API Priority and Fairness);
 * - `fifo`: by arrival;
 * - `adaptive-lifo`: like `priority`; but while the line is overloaded the newest of a rank is served first, because the
 *   oldest has little time left, and serving each in its turn would be late for all (Facebook, Fail at Scale).
 */
export class WaitingLine<T> {
  readonly #options: WaitingLineOptions;
  readonly #ranks: readonly Rank<T>[];
  #arrivals = 0;
  #emptyMs = Number.NEGATIVE_INFINITY;
  #size = 0;

  constructor(options: WaitingLineOptions) {
    this.#options = options;
    this.#ranks = Array.from({ length: options.ranks }, () => new Rank<T>());
  }

  get size(): number {
    return this.#size;
  }

  /** How many of a rank wait. */
  waiting(rank: number): number {
    return this.#ranks[rank]?.size ?? 0;
  }

  /** Somebody of the first rank waits. */
  get firstRankWaits(): boolean {
    return this.#ranks[0]?.first !== undefined;
  }

  /** The worst rank of those who wait; -1 when nobody does. */
  get worstRank(): number {
    let rank = this.#ranks.length - 1;
    while (rank >= 0 && this.#ranks[rank]?.first === undefined) rank -= 1;
    return rank;
  }

  push(item: T, rank: number, nowMs: number): LinePlace<T> {
    if (this.#size === 0) this.#emptyMs = nowMs;
    this.#arrivals += 1;
    const node = new Node(item, rank, nowMs, this.#arrivals);
    this.#ranks[rank]?.append(node);
    this.#size += 1;
    return node;
  }

  /** Leaves the line. False when the place has been left already. */
  remove(place: LinePlace<T>): boolean {
    if (!(place instanceof Node) || !place.waits) return false;
    const node: Node<T> = place;
    node.waits = false;
    this.#ranks[node.rank]?.remove(node);
    this.#size -= 1;
    return true;
  }

  /** Takes out who is next; `undefined` when nobody waits. */
  shift(nowMs: number): LinePlace<T> | undefined {
    const next = this.#next(nowMs);
    if (next !== undefined) this.remove(next);
    return next;
  }

  /** The line has not been empty for an interval: it is a standing queue and no burst (CoDel, RFC 8289). */
  overloaded(nowMs: number): boolean {
    return this.#size > 0 && nowMs - this.#emptyMs > this.#options.intervalMs;
  }

  /**
   * Whom a newcomer puts out of a full line; `undefined` when it is the newcomer who has to go. Nobody of the first
   * rank gives way, not even to another of it: it would be refused while worse ones have a place. A newcomer of the
   * first rank finds a place while anybody else has one.
   */
  victim(
    policy: OverflowPolicy,
    rank: number,
    nowMs: number,
    maxAgeMs: number,
  ): LinePlace<T> | undefined {
    switch (policy) {
      case "evict-lowest":
        return this.#worse(rank);
      case "drop-oldest":
        return this.#oldest();
      case "drop-newest":
        return this.#newest();
      case "age-out": {
        const oldest = this.#oldest();
        if (oldest !== undefined && nowMs - oldest.sinceMs >= maxAgeMs) return oldest;
        break;
      }
      case "reject-new":
        break;
    }
    return rank === 0 ? this.#worse(0) : undefined;
  }

  #next(nowMs: number): Node<T> | undefined {
    const critical = this.#ranks[0]?.first;
    const { order } = this.#options;
    if (order === "fifo") return critical ?? this.#oldest();
    const chosen = this.#ranks[this.#turnOf(critical !== undefined)];
    const newest = critical === undefined && order === "adaptive-lifo" && this.overloaded(nowMs);
    return newest ? chosen?.last : chosen?.first;
  }

  /** The rank whose turn it is. What the first rank takes is owed to the others, and paid when it waits no more. */
  #turnOf(firstWaits: boolean): number {
    const { minShare } = this.#options;
    let chosen = 0;
    let best = 0;
    for (let rank = 1; rank < this.#ranks.length; rank += 1) {
      const waiting = this.#ranks[rank];
      if (waiting?.first === undefined) continue;
      if (best === 0) best = rank;
      else {
        // Bounded, so that a long rush of the first rank is not paid for by all others at once.
        waiting.owed = Math.min(2, waiting.owed + minShare);
        if (chosen === 0 && waiting.owed >= 1) chosen = rank;
      }
    }
    if (firstWaits) return 0;
    if (chosen === 0) return best;
    const paid = this.#ranks[chosen];
    if (paid !== undefined) paid.owed -= 1;
    return chosen;
  }

  /** Who has waited longest, of all but the first rank. */
  #oldest(): Node<T> | undefined {
    let oldest: Node<T> | undefined;
    for (let rank = 1; rank < this.#ranks.length; rank += 1) {
      const first = this.#ranks[rank]?.first;
      if (first !== undefined && (oldest === undefined || first.arrival < oldest.arrival)) {
        oldest = first;
      }
    }
    return oldest;
  }

  /** Who came last, of all but the first rank. */
  #newest(): Node<T> | undefined {
    let newest: Node<T> | undefined;
    for (let rank = 1; rank < this.#ranks.length; rank += 1) {
      const last = this.#ranks[rank]?.last;
      if (last !== undefined && (newest === undefined || last.arrival > newest.arrival)) {
        newest = last;
      }
    }
    return newest;
  }

  /** The newest of the worst rank, if that is strictly worse. */
  #worse(rank: number): Node<T> | undefined {
    for (let worst = this.#ranks.length - 1; worst > rank; worst -= 1) {
      const newest = this.#ranks[worst]?.last;
      if (newest !== undefined) return newest;
    }
    return undefined;
  }
}

class Node<T> implements LinePlace<T> {
  readonly item: T;
  readonly rank: number;
  readonly sinceMs: number;
  readonly arrival: number;
  waits = true;
  before: Node<T> | undefined;
  after: Node<T> | undefined;

  constructor(item: T, rank: number, sinceMs: number, arrival: number) {
    this.item = item;
    this.rank = rank;
    this.sinceMs = sinceMs;
    this.arrival = arrival;
  }
}

/** Those of one rank, by arrival. */
class Rank<T> {
  first: Node<T> | undefined;
  last: Node<T> | undefined;
  size = 0;
  /** Turns that it is owed. */
  owed = 0;

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
    if (this.size === 0) this.owed = 0;
  }
}
