import type { CancelTask, Clock } from "./clock.js";
import { finiteNumber, readOptions, wholeNumber } from "./options.js";
import { type Priority, priorities, priorityRank } from "./priority.js";
import { renamedOptions } from "./renamed-options.js";
import { WeakMemo } from "./weak-memo.js";

/**
 * How many streams a client may reset on one connection. A server that gets too many closes the connection, with all calls
 * on it (the defence against HTTP/2 Rapid Reset, CVE-2023-44487). The defaults are a fifth below what the HTTP/2 server of
 * Node allows: 1,000 at once and 33 a second.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/policies.md
 */
export interface ResetOptions {
  /** Resets at once after a time without any, a whole number from 4 to 1,000,000. @defaultValue 800 */
  readonly burst?: number;
  /** Resets per second in the long run, from 0.1 to 1,000,000. @defaultValue 26 */
  readonly ratePerSecond?: number;
}

export type ResolvedResetOptions = Readonly<Required<ResetOptions>>;

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveResetOptions(
  given: ResetOptions = {},
  prefix = "resets",
): ResolvedResetOptions {
  const options = readOptions(
    prefix,
    given,
    ["burst", "ratePerSecond"],
    [],
    renamedOptions("Resets"),
  );
  const { burst = 800, ratePerSecond = 26 } = options;
  return Object.freeze({
    burst: wholeNumber(`${prefix}.burst`, burst, 4, 1_000_000),
    ratePerSecond: finiteNumber(`${prefix}.ratePerSecond`, ratePerSecond, 0.1, 1_000_000),
  });
}

/** Why a policy would reset a stream: a hedge that lost, or an attempt that timed out. */
export type ResetUse = "loser" | "timeout";

/**
 * The share of the burst that each use leaves to others. Cancellations and deadlines of callers are never held back, and
 * have all of it. A time-out comes next, because somebody waits for it; a hedge that lost holds nobody up.
 */
const kept: Readonly<Record<ResetUse, number>> = { loser: 0.5, timeout: 0.25 };

/** The resets that one connection has left: a token bucket. */
export class ResetBudget {
  readonly #options: ResolvedResetOptions;
  #left: number;
  #atMs: number;

  constructor(options: ResolvedResetOptions, nowMs: number) {
    this.#options = options;
    this.#left = options.burst;
    this.#atMs = nowMs;
  }

  left(nowMs: number): number {
    const { burst, ratePerSecond } = this.#options;
    this.#left = Math.min(burst, this.#left + ((nowMs - this.#atMs) * ratePerSecond) / 1_000);
    this.#atMs = nowMs;
    return this.#left;
  }

  /** Counts a reset. With none left the server closes the connection, and the next one starts with none left too. */
  count(nowMs: number): void {
    this.#left = Math.max(0, this.left(nowMs) - 1);
  }

  /** Takes back one that was counted and did not become a reset. */
  giveBack(nowMs: number): void {
    this.#left = Math.min(this.#options.burst, this.left(nowMs) + 1);
  }

  /** Milliseconds until a reset is allowed for this use; 0 for now. */
  waitMs(use: ResetUse, nowMs: number): number {
    const { burst, ratePerSecond } = this.#options;
    const missing = burst * kept[use] + 1 - this.left(nowMs);
    return missing <= 0 ? 0 : Math.ceil((missing * 1_000) / ratePerSecond);
  }
}

/** An attempt, which can be cancelled at the cost of a reset. */
export interface Resettable {
  /** The budget that its reset was taken from when it was cancelled. */
  resetFrom?: ResetBudget | undefined;
}

interface Waiting {
  readonly subject: Resettable;
  readonly task: () => void;
}

/** What waits for one use, by priority: a reset that comes back goes to the highest that waits. */
class Queue {
  readonly #ranks = priorities.map(() => new Set<Waiting>());
  stop: CancelTask | undefined;

  get size(): number {
    let size = 0;
    for (const { size: waiting } of this.#ranks) size += waiting;
    return size;
  }

  add(waiting: Waiting, priority: Priority): void {
    this.#ranks[priorityRank[priority]]?.add(waiting);
  }

  /** False when it has left already. */
  delete(waiting: Waiting): boolean {
    return this.#ranks.some((rank) => rank.delete(waiting));
  }

  *inOrder(): Iterable<Waiting> {
    for (const rank of this.#ranks) yield* rank;
  }
}

/** The connections to all addresses of one target. */
interface Target {
  readonly peers: Map<string, ResetBudget>;
  readonly queues: Readonly<Record<ResetUse, Queue>>;
}

/**
 * The resets that this process causes, by target and address. grpc-js has one connection to each address, which all clients
 * of a target share. The address of an attempt is known only when it has ended, so decisions before go by the address of the
 * target that has the fewest resets left.
 */
export class ResetBudgets {
  readonly #options: ResolvedResetOptions;
  readonly #clock: Pick<Clock, "now" | "schedule">;
  readonly #targets = new Map<string, Target>();

  constructor(options: ResolvedResetOptions, clock: Pick<Clock, "now" | "schedule">) {
    this.#options = options;
    this.#clock = clock;
  }

  /** Whether the attempt may be cancelled now. If so, takes a reset from the budget; `ended` corrects it. */
  take(target: string, use: ResetUse, subject: Resettable): boolean {
    const nowMs = this.#clock.now();
    const lowest = this.#lowest(target, nowMs);
    if (lowest === undefined) return true;
    if (lowest.waitMs(use, nowMs) > 0) return false;
    lowest.count(nowMs);
    subject.resetFrom = lowest;
    return true;
  }

  /** Whether no stream of the target may be reset for this use now. */
  low(target: string, use: ResetUse): boolean {
    if (this.#targets.size === 0) return false;
    const nowMs = this.#clock.now();
    const lowest = this.#lowest(target, nowMs);
    return lowest !== undefined && lowest.waitMs(use, nowMs) > 0;
  }

  /**
   * Takes a reset for the attempt as soon as one is allowed, and then runs `task`. Higher priorities come first. The result
   * cancels that.
   */
  later(
    target: string,
    use: ResetUse,
    subject: Resettable,
    task: () => void,
    priority: Priority = "normal",
  ): CancelTask {
    const { queues } = this.#of(target);
    const queue = queues[use];
    const waiting: Waiting = { subject, task };
    queue.add(waiting, priority);
    if (queue.stop === undefined) this.#await(target, use, queue);
    return () => {
      if (!queue.delete(waiting) || queue.size > 0) return;
      queue.stop?.();
      queue.stop = undefined;
    };
  }

  /** The attempt has ended: by a reset of the stream to `peer`, or without a reset. */
  ended(target: string, subject: Resettable, peer: string | undefined): void {
    const taken = subject.resetFrom;
    if (peer === undefined && taken === undefined) return;
    const nowMs = this.#clock.now();
    subject.resetFrom = undefined;
    const budget = peer === undefined ? undefined : this.#budget(target, peer, nowMs);
    if (budget === taken) return;
    taken?.giveBack(nowMs);
    budget?.count(nowMs);
  }

  /** How many addresses have a budget. */
  get size(): number {
    let size = 0;
    for (const { peers } of this.#targets.values()) size += peers.size;
    return size;
  }

  #await(target: string, use: ResetUse, queue: Queue): void {
    const nowMs = this.#clock.now();
    const waitMs = this.#lowest(target, nowMs)?.waitMs(use, nowMs) ?? 0;
    // No need to keep the process alive: the attempts that wait are on the wire, and their sockets do that.
    queue.stop = this.#clock.schedule(waitMs, () => this.#serve(target, use, queue), {
      ref: false,
    });
  }

  #serve(target: string, use: ResetUse, queue: Queue): void {
    queue.stop = undefined;
    for (const waiting of queue.inOrder()) {
      if (!this.take(target, use, waiting.subject)) break;
      queue.delete(waiting);
      waiting.task();
    }
    if (queue.size > 0 && queue.stop === undefined) this.#await(target, use, queue);
  }

  #lowest(target: string, nowMs: number): ResetBudget | undefined {
    const peers = this.#targets.get(target)?.peers;
    if (peers === undefined) return undefined;
    let lowest: ResetBudget | undefined;
    for (const budget of peers.values()) {
      if (lowest === undefined || budget.left(nowMs) < lowest.left(nowMs)) lowest = budget;
    }
    return lowest;
  }

  #budget(target: string, peer: string, nowMs: number): ResetBudget {
    const { peers } = this.#of(target);
    const present = peers.get(peer);
    if (present !== undefined) return present;
    // Addresses come and go. One that has all its resets again is the same as an unknown one.
    this.#forget(nowMs);
    const made = new ResetBudget(this.#options, nowMs);
    this.#of(target).peers.set(peer, made);
    return made;
  }

  #of(target: string): Target {
    const present = this.#targets.get(target);
    if (present !== undefined) return present;
    const made = { peers: new Map(), queues: { loser: new Queue(), timeout: new Queue() } };
    this.#targets.set(target, made);
    return made;
  }

  #forget(nowMs: number): void {
    for (const [target, { peers, queues }] of this.#targets) {
      for (const [peer, budget] of peers) {
        if (budget.left(nowMs) >= this.#options.burst) peers.delete(peer);
      }
      const waits = queues.loser.size + queues.timeout.size;
      if (peers.size === 0 && waits === 0) this.#targets.delete(target);
    }
  }
}

const shared = new WeakMap<Clock, WeakMemo<ResetBudgets>>();

/**
 * The budgets that all clients of the process with the same clock and the same limits share, because grpc-js shares
 * connections between clients with equal options.
 */
export function sharedResetBudgets(options: ResolvedResetOptions, clock: Clock): ResetBudgets {
  const key = `${options.burst}/${options.ratePerSecond}`;
  const present = shared.get(clock) ?? new WeakMemo<ResetBudgets>();
  shared.set(clock, present);
  return present.of(key, () => new ResetBudgets(options, clock));
}
