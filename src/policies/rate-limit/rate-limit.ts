import type { Clock, Random } from "../../core/clock.js";
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

/** Numbers of one rate, over all its keys. All but `queued` and `asking` only grow. */
export interface RateLimitSnapshot {
  readonly ratePerSecond: number;
  readonly burst: number;
  /** Calls that wait for their tokens. */
  readonly queued: number;
  /** Calls that wait for the answer of a store. */
  readonly asking: number;
  readonly admitted: number;
  readonly refused: number;
  /** Calls that left while they waited. */
  readonly left: number;
  readonly storeFailures: number;
}

/** What a rate lives by. */
export interface RateEnvironment {
  readonly clock: Clock;
  readonly random: Random;
  readonly report: ReportError;
}

const expired = refusal("DEADLINE_EXPIRED", "the deadline had passed");
const drained = refusal("DRAINING", "the server began to drain");

/** What a call holds that has taken no tokens. */
const free: Permit = Object.freeze({ settle() {} });

/** The tokens of a call. They are spent when it ends, and come back when it does not go on. */
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
 * Lets calls go on at a rate, for each key by itself. A call takes its tokens and goes on; where there are none it
 * waits for them, if that is allowed and worth it, or is refused and told when to come back. Tokens of a call that does
 * not go on after all come back when its permit is abandoned.
 */
export class RateLimit implements RateWaiterHost {
  readonly clock: Clock;
  readonly report: ReportError;
  readonly #options: ResolvedRateLimitOptions;
  readonly #random: Random;
  readonly #quotaClient: QuotaClient;
  /** Of the keys for which somebody waits, and no others. */
  readonly #queues = new Map<string, RateQueue>();
  /** Those that wait for the answer of a store, and do not stand in a queue. */
  readonly #asking = new Map<RateWaiter, PendingTake>();
  #draining = false;
  #admitted = 0;
  #refused = 0;
  #left = 0;

  /** @param name Where failures of the store are said to have happened. */
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
    this.#quotaClient = new QuotaClient(store, options, clock, report, `${name}.store`);
  }

  /**
   * Asks to go on. The lower the rank, the sooner a waiting call is served; inside a rank, as they came.
   *
   * Refuses with `RATE_LIMIT_EXCEEDED` when the tokens come too late for `maxWaitMs` or for the deadline, or with
   * `DEADLINE_EXPIRED`; a wait may end with `DRAINING` too.
   */
  enter(asked: RateRequest): GateAnswer {
    const entry = this.#enter(asked);
    if (isRefusal(entry)) this.#refused += 1;
    return entry;
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
   * For the permits: puts the tokens back that a call took. The next one that waits has them at once, unless something
   * behind the rate refused the call: then the next would be refused as well, and after it all that wait. They keep to
   * their times, and what came back is there when none waits any more.
   */
  giveBack({ key, cost }: RateRequest, refused = false): void {
    const queue = this.#queues.get(key);
    if (refused && queue !== undefined) {
      queue.keep(cost);
      return;
    }
    this.#quotaClient.giveBack(key, cost);
    queue?.serve();
  }

  /** Refuses those who wait, for tokens or for the answer of a store, and lets nobody wait from now on. */
  drain(): void {
    this.#draining = true;
    // All are out before the first is told: what its turn gives back must let none of the others through.
    const waiters = [...this.#queues.values()].flatMap((queue) => queue.clear());
    for (const [waiter, take] of this.#asking) {
      take.abandon();
      waiters.push(waiter);
    }
    this.#asking.clear();
    const nowMs = this.clock.now();
    for (const waiter of waiters) waiter.refuse(drained, nowMs);
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
    };
  }

  // ---- What becomes of those that wait.

  admitted(request: RateRequest, { taken }: Granted): Permit {
    this.#admitted += 1;
    return taken ? new Tokens(this, request) : free;
  }

  refused(): void {
    this.#refused += 1;
  }

  waitedOut(waiter: RateWaiter, nowMs: number): void {
    const { key, rank } = waiter.request;
    const queue = this.#queues.get(key);
    // Its tokens may be due in this very moment.
    queue?.serve();
    if (waiter.over) return;
    // Its own tokens are among those that are counted.
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
    if (waiter.place !== undefined) this.#queues.get(waiter.request.key)?.remove(waiter);
    else {
      this.#asking.get(waiter)?.abandon();
      this.#asking.delete(waiter);
    }
  }

  // ---- A store that answers later.

  #waitForStore(request: RateRequest, asked: PendingTake, nowMs: number): GateAnswer {
    if (this.#draining) {
      asked.abandon();
      return drained;
    }
    const waiter = new RateWaiter(this, request, nowMs);
    this.#asking.set(waiter, asked);
    // The store has a time of its own; most deadlines are further away.
    if (request.deadlineMs - nowMs < this.#options.storeTimeoutMs) {
      waiter.waitUntil(request.deadlineMs, nowMs);
    }
    asked.listen((answer) => {
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
      const entry = this.#waitOrRefuse(request, answer, nowMs, waiter);
      if (isRefusal(entry)) waiter.refuse(entry, nowMs);
    }
  }

  // ---- A call for which there is not enough.

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
    const queue = new RateQueue({
      clock: this.clock,
      ratePerSecond: this.#options.rate.ratePerSecond,
      pauseMs: (askedInVain) =>
        this.#quotaClient.foreign ? pauseMs(askedInVain, this.#random) : 0,
      take: (cost, nowMs) => this.#quotaClient.take(key, cost, nowMs),
      giveBack: (cost) => this.#quotaClient.giveBack(key, cost),
      refuse: (waiter, short, nowMs) =>
        waiter.refuse(short === "expired" ? expired : this.#refuse(waiter.request, short), nowMs),
      emptied: (kept) => {
        this.#queues.delete(key);
        if (kept > 0) this.#quotaClient.giveBack(key, kept);
      },
    });
    this.#queues.set(key, queue);
    return queue;
  }

  #refuse(request: RateRequest, short: Short): Refusal {
    return rateRefusal(this.#options.rate, request, short, this.#random);
  }
}

/** Share by which the time that a refused call is told may be longer: those refused together come back apart. */
const maxJitter = 0.1;
/** So much of a key is shown in a text: it may be long, and hold anything. */
const maxShown = 64;

/** What a call is told that does not get its tokens. */
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
  { failed }: Short,
): string {
  const shown = JSON.stringify(key.slice(0, maxShown));
  // What is wrong with a store is reported here, and is nobody else's business.
  if (failed === true) return `nothing is known of the tokens of ${shown}`;
  if (cost > burst)
    return `${shown} asks for ${cost} tokens, and there are never more than ${burst}`;
  return `${shown} has used up ${ratePerSecond} per second, burst ${burst}`;
}

/** How many tokens a call takes. */
export type CostOf<C> = (call: C) => number;

/**
 * The cost function of a rate. The user's own may throw, or give something that is no number of tokens; then the
 * call costs one.
 *
 * @throws InvalidOptionError for something that is no function.
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
