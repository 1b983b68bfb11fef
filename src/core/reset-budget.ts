import type { CancelTask, Clock } from "./clock.js";
import { finiteNumber, readOptions, wholeNumber } from "./options.js";

/**
 * How many streams of a connection a client may reset. A server that gets more closes the connection, and with it every
 * call that was going well. The defaults stay a fifth under what Node's HTTP/2 server bears: 1,000 at once and 33 a second.
 */
export interface ResetOptions {
  /** Resets in a row after a long rest, a whole number from 4 to 1,000,000. @defaultValue 800 */
  readonly burst?: number;
  /** Resets per second in the long run, from 0.1 to 1,000,000. @defaultValue 26 */
  readonly perSecond?: number;
}

export type ResolvedResetOptions = Readonly<Required<ResetOptions>>;

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveResetOptions(
  given: ResetOptions = {},
  prefix = "resets",
): ResolvedResetOptions {
  const options = readOptions(prefix, given, ["burst", "perSecond"]);
  const { burst = 800, perSecond = 26 } = options;
  return Object.freeze({
    burst: wholeNumber(`${prefix}.burst`, burst, 4, 1_000_000),
    perSecond: finiteNumber(`${prefix}.perSecond`, perSecond, 0.1, 1_000_000),
  });
}

/** What a reset would be caused for. */
export type ResetUse = "loser" | "timeout";

/**
 * The share of the burst that is left untouched by each use. The callers' own cancellations and deadlines come first:
 * they are never held back. A timeout ends an attempt that somebody waits for; a loser holds nobody up.
 */
const kept: Readonly<Record<ResetUse, number>> = { loser: 0.5, timeout: 0.25 };

/** The resets that one connection has left. */
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
    const { burst, perSecond } = this.#options;
    this.#left = Math.min(burst, this.#left + ((nowMs - this.#atMs) * perSecond) / 1_000);
    this.#atMs = nowMs;
    return this.#left;
  }

  /** A reset that nobody could hold back. With none left the connection is closed, and another begins with as few. */
  count(nowMs: number): void {
    this.#left = Math.max(0, this.left(nowMs) - 1);
  }

  /** One that was counted, and did not become a reset. */
  giveBack(nowMs: number): void {
    this.#left = Math.min(this.#options.burst, this.left(nowMs) + 1);
  }

  /** Milliseconds until one may be caused for this use; 0 for now. */
  waitMs(use: ResetUse, nowMs: number): number {
    const { burst, perSecond } = this.#options;
    const missing = burst * kept[use] + 1 - this.left(nowMs);
    return missing <= 0 ? 0 : Math.ceil((missing * 1_000) / perSecond);
  }
}

/** What may be called off at the cost of a reset: an attempt. */
export interface Resettable {
  /** The budget that its reset was taken from before it was known to become one. */
  resetFrom?: ResetBudget | undefined;
}

interface Waiting {
  readonly subject: Resettable;
  readonly task: () => void;
}

interface Queue {
  readonly waiting: Set<Waiting>;
  stop: CancelTask | undefined;
}

/** All connections to the addresses of one target. */
interface Target {
  readonly peers: Map<string, ResetBudget>;
  readonly queues: Readonly<Record<ResetUse, Queue>>;
}

/**
 * The resets that this process causes, by target and address: grpc-js has one connection to an address, which the clients
 * of a target share. An attempt does not tell its address before it has ended, so what is decided before goes by
 * the address of the target that has least left.
 */
export class ResetBudgets {
  readonly #options: ResolvedResetOptions;
  readonly #clock: Pick<Clock, "now" | "schedule">;
  readonly #targets = new Map<string, Target>();

  constructor(options: ResolvedResetOptions, clock: Pick<Clock, "now" | "schedule">) {
    this.#options = options;
    this.#clock = clock;
  }

  /**
   * Whether the subject may be called off now. True takes the reset from the budget; `ended` settles it.
   */
  take(target: string, use: ResetUse, subject: Resettable): boolean {
    const nowMs = this.#clock.now();
    const lowest = this.#lowest(target, nowMs);
    if (lowest === undefined) return true;
    if (lowest.waitMs(use, nowMs) > 0) return false;
    lowest.count(nowMs);
    subject.resetFrom = lowest;
    return true;
  }

  /** Whether nothing may be reset for this use now. */
  low(target: string, use: ResetUse): boolean {
    if (this.#targets.size === 0) return false;
    const nowMs = this.#clock.now();
    const lowest = this.#lowest(target, nowMs);
    return lowest !== undefined && lowest.waitMs(use, nowMs) > 0;
  }

  /** Runs `task` once a reset may be caused for the subject, and takes it. Nothing runs after the result was called. */
  later(target: string, use: ResetUse, subject: Resettable, task: () => void): CancelTask {
    const { queues } = this.#of(target);
    const queue = queues[use];
    const waiting: Waiting = { subject, task };
    queue.waiting.add(waiting);
    if (queue.stop === undefined) this.#await(target, use, queue);
    return () => {
      if (!queue.waiting.delete(waiting) || queue.waiting.size > 0) return;
      queue.stop?.();
      queue.stop = undefined;
    };
  }

  /** The subject has ended: by a reset of the stream to this peer, or without one. */
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

  /** Addresses that something is remembered of. */
  get size(): number {
    let size = 0;
    for (const { peers } of this.#targets.values()) size += peers.size;
    return size;
  }

  #await(target: string, use: ResetUse, queue: Queue): void {
    const nowMs = this.#clock.now();
    const waitMs = this.#lowest(target, nowMs)?.waitMs(use, nowMs) ?? 0;
    // What waits is on the wire, and holds the process by that as long as it has to be held.
    queue.stop = this.#clock.schedule(waitMs, () => this.#serve(target, use, queue), {
      ref: false,
    });
  }

  #serve(target: string, use: ResetUse, queue: Queue): void {
    queue.stop = undefined;
    for (const waiting of queue.waiting) {
      if (!this.take(target, use, waiting.subject)) break;
      queue.waiting.delete(waiting);
      waiting.task();
    }
    if (queue.waiting.size > 0 && queue.stop === undefined) this.#await(target, use, queue);
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
    // Addresses come and go; one that has all its resets again is as good as unknown.
    this.#forget(nowMs);
    const made = new ResetBudget(this.#options, nowMs);
    this.#of(target).peers.set(peer, made);
    return made;
  }

  #of(target: string): Target {
    const present = this.#targets.get(target);
    if (present !== undefined) return present;
    const queue = (): Queue => ({ waiting: new Set(), stop: undefined });
    const made = { peers: new Map(), queues: { loser: queue(), timeout: queue() } };
    this.#targets.set(target, made);
    return made;
  }

  #forget(nowMs: number): void {
    for (const [target, { peers, queues }] of this.#targets) {
      for (const [peer, budget] of peers) {
        if (budget.left(nowMs) >= this.#options.burst) peers.delete(peer);
      }
      const waits = queues.loser.waiting.size + queues.timeout.waiting.size;
      if (peers.size === 0 && waits === 0) this.#targets.delete(target);
    }
  }
}

const shared = new WeakMap<Clock, Map<string, ResetBudgets>>();

/**
 * The budgets of the process. grpc-js shares connections between clients with equal options, whoever made them, so
 * whoever has the same clock and the same limits counts together.
 */
export function sharedResetBudgets(options: ResolvedResetOptions, clock: Clock): ResetBudgets {
  const key = `${options.burst}/${options.perSecond}`;
  const present = shared.get(clock) ?? new Map<string, ResetBudgets>();
  shared.set(clock, present);
  const budgets = present.get(key) ?? new ResetBudgets(options, clock);
  present.set(key, budgets);
  return budgets;
}
