import type { Clock, Random } from "../../core/clock.js";
import type { Side } from "../../core/decision.js";
import { type Gauges, noteQueue } from "../../core/gauges.js";
import { boundedKey } from "../../core/keyed.js";
import { optionalFunction, shown } from "../../core/options.js";
import { pauseMs } from "../../core/pause.js";
import {
  type GateAnswer,
  isRefusal,
  OncePermit,
  type Permit,
  type Refusal,
  refusal,
} from "../../core/permit.js";
import { asking, type ReportError } from "../../core/user-code.js";
import type { ResolvedRateLimitOptions } from "./options.js";
import { RateQueue, type RateRequest, RateWaiter, type RateWaiterHost } from "./queue.js";
import {
  type Granted,
  MemoryQuotaStore,
  never,
  type PendingTake,
  QuotaClient,
  type Short,
  type StoreAnswer,
} from "./store-access.js";
import type { TokenRate } from "./token-bucket.js";

/**
 * Numbers of one rate limit, over all its keys. `admitted`, `refused`, `left` and `storeFailures` only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/rate.md
 */
export interface RateLimitSnapshot {
  readonly ratePerSecond: number;
  readonly burst: number;
  /** Calls that wait for tokens now. */
  readonly queued: number;
  /** Calls that wait for the answer of a store now. */
  readonly asking: number;
  readonly admitted: number;
  readonly refused: number;
  /** Calls that were cancelled while they waited. */
  readonly left: number;
  readonly storeFailures: number;
  /** The store failed when it was asked last, or answered for this process alone. Absent without a store of yours. */
  readonly storeAway?: boolean;
}

/** What a rate limit is given beside its options. */
export interface RateEnvironment {
  readonly clock: Clock;
  readonly random: Random;
  readonly report: ReportError;
}

const expired = refusal("DEADLINE_EXPIRED", "the deadline had passed");
const drained = refusal("DRAINING", "the server began to drain");

/** The permit of a call that took no tokens. */
const free: Permit = Object.freeze({ settle() {} });

/** The permit of a call that took tokens. Settled, they stay spent; abandoned, they come back. */
class Tokens extends OncePermit {
  readonly #limit: RateLimit;
  readonly #request: RateRequest;

  constructor(limit: RateLimit, request: RateRequest) {
    super();
    this.#limit = limit;
    this.#request = request;
  }

  protected onSettle(): void {}

  abandon(refused: boolean): void {
    if (this.over) return;
    this.over = true;
    this.#limit.giveBack(this.#request, refused);
  }
}

/**
 * A rate limit with a token bucket for each key. A call takes its tokens and goes on. Where there are too few, it waits for
 * them, if its tokens come within `maxWaitMs` and before its deadline; otherwise it is refused with the time until there are
 * enough. When the permit of a call is abandoned, its tokens come back.
 */
export class RateLimit implements RateWaiterHost {
  readonly clock: Clock;
  readonly report: ReportError;
  #options: ResolvedRateLimitOptions;
  readonly #random: Random;
  readonly #quotaClient: QuotaClient;
  /** The tokens, where they are in the memory of this process. */
  readonly #memory: MemoryQuotaStore | undefined;
  /** By key, for the keys for which calls wait. */
  readonly #queues = new Map<string, RateQueue>();
  /** Calls that wait for the answer of a store, and stand in no queue. */
  readonly #asking = new Map<RateWaiter, PendingTake>();
  #draining = false;
  #admitted = 0;
  #refused = 0;
  #left = 0;

  /** @param name Names the policy in reports of store failures, which come from `${name}.store`. */
  constructor(
    options: ResolvedRateLimitOptions,
    { clock, random, report }: RateEnvironment,
    name: string,
  ) {
    this.#options = options;
    this.clock = clock;
    this.report = report;
    this.#random = random;
    const store = options.store ?? new MemoryQuotaStore(options.rate, options.maxKeys);
    this.#memory = store instanceof MemoryQuotaStore ? store : undefined;
    this.#quotaClient = new QuotaClient(store, options, clock, report, `${name}.store`);
  }

  /**
   * Takes the options of a limit that is not used. Tokens that were taken stay taken. Calls that wait go on waiting, for as long as
   * they might have when they came. A store stays.
   */
  reconfigure(fresh: RateLimit): void {
    this.#options = fresh.#options;
    this.#quotaClient.reconfigure(fresh.#options);
    const { rate, maxKeys } = fresh.#options;
    this.#memory?.reconfigure(rate, maxKeys, this.clock.now());
    // The first call of each queue may have its tokens sooner, or later.
    const queues = [...this.#queues.values()];
    for (const queue of queues) queue.reconfigure(rate.ratePerSecond);
  }

  /**
   * Asks for the tokens of a call. Lower ranks are served first, and inside a rank calls are served by arrival.
   *
   * Refuses with `RATE_LIMIT_EXCEEDED` when the tokens come too late for `maxWaitMs` or for the deadline, and with
   * `DEADLINE_EXPIRED` when the deadline has passed. A wait can end with both, and with `DRAINING`.
   */
  enter(request: RateRequest): GateAnswer {
    const answer = this.#enter(request);
    if (isRefusal(answer)) this.#refused += 1;
    return answer;
  }

  #enter(asked: RateRequest): GateAnswer {
    const nowMs = this.clock.now();
    if (asked.deadlineMs <= nowMs) return expired;
    if (asked.cost === 0) {
      this.#admitted += 1;
      return free;
    }
    const key = boundedKey(asked.key);
    const request = key === asked.key ? asked : { ...asked, key };
    if (request.cost > this.#options.rate.burst) return this.#refuse(request, never);
    if (this.#queues.size > 0 && this.#queues.get(key)?.holdsBack(request.rank) === true) {
      return this.#waitOrRefuse(request, { kind: "short", retryAfterMs: 0 }, nowMs);
    }
    const answer = this.#quotaClient.take(key, request.cost, nowMs);
    if (answer.kind === "granted") return this.admitted(request, answer);
    if (answer.kind === "pending") return this.#waitForStore(request, answer, nowMs);
    return this.#waitOrRefuse(request, answer, nowMs);
  }

  /**
   * For permits: puts back the tokens of a call. The next call that waits gets them at once.
   *
   * Not when a policy behind the rate `refused` the call: it would refuse the next one as well, and with it the whole queue.
   * Then the calls that wait keep to their times, and the tokens come back when the queue is empty.
   */
  giveBack({ key, cost }: RateRequest, refused = false): void {
    const queue = refused ? this.#queues.get(key) : undefined;
    if (queue !== undefined) {
      queue.keep(cost);
      return;
    }
    this.#quotaClient.giveBack(key, cost);
    // Only now: the store is the user's, and may have made calls leave and join.
    this.#queues.get(key)?.serve();
  }

  /** Refuses the calls that wait, for tokens or for the answer of a store. From now on none waits. */
  drain(): void {
    this.#draining = true;
    // All are taken out before the first is refused: tokens that it gives back must not be granted to another.
    const waiters = [...this.#queues.values()].flatMap((queue) => queue.clear());
    for (const [waiter, take] of this.#asking) {
      take.abandon();
      waiters.push(waiter);
    }
    this.#asking.clear();
    const nowMs = this.clock.now();
    for (const waiter of waiters) waiter.refuse(drained, nowMs);
  }

  /** How many calls of a rank wait, for tokens or for the answer of a store. */
  waiting(rank: number): number {
    let count = 0;
    for (const queue of this.#queues.values()) count += queue.waiting(rank);
    for (const { request } of this.#asking.keys()) if (request.rank === rank) count += 1;
    return count;
  }

  snapshot(): RateLimitSnapshot {
    let queued = 0;
    for (const queue of this.#queues.values()) queued += queue.size;
    return {
      ...this.#options.rate,
      queued,
      asking: this.#asking.size,
      admitted: this.#admitted,
      refused: this.#refused,
      left: this.#left,
      storeFailures: this.#quotaClient.failures,
      ...(this.#quotaClient.isForeign ? { storeAway: this.#quotaClient.away } : {}),
    };
  }

  /** Tells the calls that wait, and whether the store is away. */
  measure(gauges: Gauges, policy: "rate" | "quota", side: Side): void {
    noteQueue(gauges, policy, side, (rank) => this.waiting(rank));
    const { isForeign, away } = this.#quotaClient;
    if (isForeign) gauges.note("storeAway", away ? 1 : 0, { policy, side });
  }

  // ---- For the calls that wait.

  admitted(request: RateRequest, { taken, away }: Granted): Permit {
    this.#admitted += 1;
    return taken ? new Tokens(this, request) : { settle() {}, storeAway: away };
  }

  refused(): void {
    this.#refused += 1;
  }

  waitedOut(waiter: RateWaiter, nowMs: number): void {
    const { key, rank } = waiter.request;
    const queue = this.#queues.get(key);
    // Its tokens may be due at this moment.
    queue?.serve();
    if (waiter.over) return;
    // A cost of 0, because its own tokens are counted among those of the queue.
    const waitMs = queue?.waitBehind(rank, 0, nowMs) ?? 0;
    this.#takeOut(waiter);
    const short: Short = { kind: "short", retryAfterMs: waitMs };
    waiter.refuse(waiter.isLate(nowMs) ? expired : this.#refuse(waiter.request, short), nowMs);
  }

  left(waiter: RateWaiter): void {
    this.#left += 1;
    this.#takeOut(waiter);
  }

  #takeOut(waiter: RateWaiter): void {
    if (waiter.handle !== undefined) this.#queues.get(waiter.request.key)?.remove(waiter);
    else {
      this.#asking.get(waiter)?.abandon();
      this.#asking.delete(waiter);
    }
  }

  // ---- A store that answers later.

  #waitForStore(request: RateRequest, take: PendingTake, nowMs: number): GateAnswer {
    if (this.#draining) {
      take.abandon();
      return drained;
    }
    const waiter = new RateWaiter(this, request, nowMs);
    this.#asking.set(waiter, take);
    // The store has a timeout of its own; most deadlines are later, and need no timer.
    if (request.deadlineMs - nowMs < this.#options.storeTimeoutMs) {
      waiter.waitUntil(request.deadlineMs, nowMs);
    }
    take.onAnswer((answer) => {
      this.#asking.delete(waiter);
      this.#answered(waiter, answer);
    });
    return waiter.entered();
  }

  #answered(waiter: RateWaiter, answer: StoreAnswer): void {
    const { request } = waiter;
    const nowMs = this.clock.now();
    if (request.deadlineMs <= nowMs) {
      if (answer.kind === "granted" && answer.taken) this.giveBack(request);
      waiter.refuse(expired, nowMs);
    } else if (answer.kind === "granted") waiter.admit(answer, nowMs);
    else {
      const again = this.#waitOrRefuse(request, answer, nowMs, waiter);
      if (isRefusal(again)) waiter.refuse(again, nowMs);
    }
  }

  // ---- Too few tokens.

  #waitOrRefuse(
    request: RateRequest,
    short: Short,
    nowMs: number,
    waiter?: RateWaiter,
  ): GateAnswer {
    const { key, rank, cost, deadlineMs } = request;
    const queue = this.#queues.get(key);
    const behindMs = queue?.holdsBack(rank) === true ? queue.waitBehind(rank, cost, nowMs) : 0;
    const waitMs = Math.max(short.retryAfterMs, behindMs);
    const dueMs = nowMs + waitMs;
    const latestMs = (waiter?.sinceMs ?? nowMs) + this.#options.maxWaitMs;
    const inTime = short.failed !== true && dueMs <= latestMs && dueMs < deadlineMs;
    if (!inTime || !this.#hasRoom(queue))
      return this.#refuse(request, { ...short, retryAfterMs: waitMs });
    const waiting = waiter ?? new RateWaiter(this, request, nowMs);
    waiting.waitUntil(Math.min(latestMs, deadlineMs), nowMs);
    (queue ?? this.#newQueue(key)).add(waiting, dueMs, nowMs);
    return waiting.entered();
  }

  #hasRoom(queue: RateQueue | undefined): boolean {
    if (this.#draining) return false;
    if (queue === undefined && this.#queues.size >= this.#options.maxKeys) return false;
    return (queue?.size ?? 0) < this.#options.maxQueued;
  }

  #newQueue(key: string): RateQueue {
    const queue = new RateQueue(
      {
        clock: this.clock,
        pauseMs: (timesInVain) =>
          this.#quotaClient.isForeign ? pauseMs(timesInVain, this.#random) : 0,
        take: (cost, nowMs) => this.#quotaClient.take(key, cost, nowMs),
        giveBack: (cost) => this.#quotaClient.giveBack(key, cost),
        refuse: (waiter, short, nowMs) =>
          waiter.refuse(short === "expired" ? expired : this.#refuse(waiter.request, short), nowMs),
        emptied: (kept) => {
          this.#queues.delete(key);
          if (kept > 0) this.#quotaClient.giveBack(key, kept);
        },
      },
      this.#options.rate.ratePerSecond,
    );
    this.#queues.set(key, queue);
    return queue;
  }

  #refuse(request: RateRequest, short: Short): Refusal {
    return rateRefusal(this.#options.rate, request, short, this.#random);
  }
}

/** `retryAfterMs` is up to this share longer by chance, so that calls refused together do not come back together. */
const maxJitter = 0.1;
/** Characters of a key that stand in a text: a key may be long, and its content is the user's. */
const maxShown = 64;

function rateRefusal(
  rate: TokenRate,
  { key, cost }: Pick<RateRequest, "key" | "cost">,
  short: Short,
  random: Random,
): Refusal {
  const { retryAfterMs } = short;
  const jitteredMs =
    retryAfterMs === Infinity ? undefined : retryAfterMs * (1 + maxJitter * random());
  return refusal("RATE_LIMIT_EXCEEDED", detailOf(rate, key, cost, short), jitteredMs, key);
}

function detailOf(
  { ratePerSecond, burst }: TokenRate,
  key: string,
  cost: number,
  { failed, alone }: Short,
): string {
  const shown = JSON.stringify(key.slice(0, maxShown));
  // The error of the store is reported in this process. Callers are not told: it may name hosts or credentials.
  if (failed === true) return `nothing is known of the tokens of ${shown}`;
  if (cost > burst)
    return `${shown} asks for ${cost} tokens, and there are never more than ${burst}`;
  if (alone === true) {
    return `${shown} has used up what this process has of ${ratePerSecond} per second while the store is away`;
  }
  return `${shown} has used up ${ratePerSecond} per second, burst ${burst}`;
}

/** How many tokens a call takes, at least 0. */
export type CostOf<C> = (call: C) => number;

/**
 * The cost function of a rate limit; 1 for every call where the user gives none. When the user's function throws or returns
 * no number of at least 0, that is reported and the call costs 1.
 *
 * @throws InvalidOptionError for an option that is no function.
 */
export function costFunction<C>(
  cost: CostOf<C> | undefined,
  report: ReportError,
  option: string,
): CostOf<C> {
  const own = optionalFunction(option, cost);
  if (own === undefined) return () => 1;
  return asking(own, tokens, () => 1, report, option);
}

function tokens(answer: unknown): number {
  if (typeof answer === "number" && Number.isFinite(answer) && answer >= 0) return answer;
  throw new RangeError(`a cost must be a number of at least 0, got ${shown(answer)}`);
}
