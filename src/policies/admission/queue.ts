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

export interface AdmissionQueueOptions {
  readonly order: QueueOrder;
  /** How many ranks there are; 0 is served first. */
  readonly ranks: number;
  /** Share of the turns that each rank but the first is owed. From 0 to below 1 over their number. */
  readonly minShare: number;
  /** For `adaptive-lifo`: a line that has not been empty for so long is overloaded. */
  readonly intervalMs: number;
}

/** A place in the line. */
export interface QueueTicket<T> {
  readonly item: T;
  readonly rank: number;
  readonly sinceMs: number;
  /** Its turn has come before that of better ones, because its rank was owed one. */
  readonly owed: boolean;
}

/** So many turns may a rank be owed. A long rush of others is not paid for by all who come later at once. */
const mostOwed = 2;
/** Shares are added up, and a sum may be a hair below the whole number that it is meant to be. */
const hair = 1e-9;

/**
 * Those who wait for a turn. Every order and every overflow policy finds its call in constant time, and a call that
 * leaves takes nobody's place with it. The first rank is served before all others, whatever the order; among those:
 *
 * - `priority`: the best rank first, by arrival inside it;
 * - `fifo`: by arrival;
 * - `adaptive-lifo`: like `priority`; but while the line is overloaded the newest of a rank is served first, because the
 *   oldest has little time left, and serving each in its turn would be late for all (Facebook, Fail at Scale).
 *
 * A steady load of better calls would starve the worse ranks (Kubernetes API Priority and Fairness). So each but the first
 * is owed a small share of all turns, whether it waits at the time or not: it may come back when it is refused. What it
 * gets anyway is taken off. With a whole turn owed, one of the rank finds a place in a full line, keeps it against all but
 * the first rank, and has the next turn that the first rank does not take.
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

  push(item: T, rank: number, nowMs: number): QueueTicket<T> {
    if (this.#size === 0) this.#emptyMs = nowMs;
    this.#arrivals += 1;
    const node = new Node(item, rank, nowMs, this.#arrivals);
    this.#ranks[rank]?.append(node);
    this.#size += 1;
    return node;
  }

  /** Leaves the line. False when the place has been left already. */
  remove(place: QueueTicket<T>): boolean {
    if (!(place instanceof Node) || !place.waits) return false;
    const node: Node<T> = place;
    node.waits = false;
    this.#ranks[node.rank]?.remove(node);
    this.#size -= 1;
    return true;
  }

  /** The next call of the rank that comes has a turn to come: more are owed than wait. */
  isOwed(rank: number): boolean {
    const one = this.#ranks[rank];
    return rank > 0 && one !== undefined && one.turnsOwed > one.size;
  }

  /**
   * One of a rank has had a turn, from the line or without a wait. The worse ranks are owed a share of it; of one that was
   * owed itself, all are, so that each has its share of all turns.
   */
  served(rank: number, owed = false): void {
    const { minShare, order } = this.#options;
    if (minShare === 0) return;
    for (let other = owed ? 1 : rank + 1; other < this.#ranks.length; other += 1) {
      const one = this.#ranks[other];
      if (one === undefined) continue;
      // By arrival, those who wait have turns to come that cannot be paid yet.
      const most = order === "fifo" ? mostOwed + one.size : mostOwed;
      one.owed = Math.min(most, one.owed + minShare);
    }
    const one = this.#ranks[rank];
    if (one !== undefined) one.owed = Math.max(0, one.owed - 1);
  }

  /** Takes out who is next; `undefined` when nobody waits. Whoever is really served is told to `served`. */
  shift(nowMs: number): QueueTicket<T> | undefined {
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
   * first rank finds a place while anybody else has one. Of the others, nobody gives way who is owed a turn, and a newcomer
   * who is finds a place while anybody has one who is not.
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
    // The best has its turn anyway.
    const owed = this.#ranks.find((rank) => rank !== best && rank.size > 0 && rank.turnsOwed > 0);
    const chosen = owed ?? best;
    const newest = order === "adaptive-lifo" && this.overloaded(nowMs);
    const next = newest ? chosen?.last : chosen?.first;
    if (next !== undefined) next.owed = owed !== undefined;
    return next;
  }

  /** Who has waited longest, of all but the first rank. */
  #oldest(): Node<T> | undefined {
    return this.#extreme(({ first }) => first, isBefore);
  }

  /** One of all but the first rank: of those that are found in each, the one that comes before the others. */
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

  /** The newest of the worst rank, if that is strictly worse. Of those who are owed no turn, or of `all`. */
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

/** Those of one rank, by arrival. */
class Rank<T> {
  first: Node<T> | undefined;
  last: Node<T> | undefined;
  size = 0;
  /** What it is owed, in turns. */
  owed = 0;

  /** The whole turns of that: so many of the rank keep their places. */
  get turnsOwed(): number {
    return Math.floor(this.owed + hair);
  }

  /** The one of those who may have to go that came first. */
  get oldestToGo(): Node<T> | undefined {
    let kept = this.turnsOwed;
    let node = this.first;
    for (; kept > 0; kept -= 1) node = node?.after;
    return node;
  }

  /** The one of those who may have to go that came last. */
  get newestToGo(): Node<T> | undefined {
    return this.size > this.turnsOwed ? this.last : undefined;
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
