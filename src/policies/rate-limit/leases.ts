import { LRUCache } from "lru-cache";
import type { CancelTask, Clock } from "../../core/clock.js";
import { type ReportError, reportSafely } from "../../core/user-code.js";
import type { QuotaAnswer, QuotaShort, QuotaStore } from "./store.js";
import { TokenBucket, type TokenRate } from "./token-bucket.js";

/** Where the tokens of all processes are. */
export interface TokenLedger {
  /** One atomic step for one key. Rejects when it cannot be reached or does not answer, after a bounded time. */
  exchange(key: string, exchange: TokenExchange, rate: TokenRate): Promise<TokensTaken>;
}

/** What a process asks of the ledger: first it puts back what it does not use, then it takes. */
export interface TokenExchange {
  /** Tokens that are put back. The bucket does not hold more than its burst. */
  readonly back: number;
  /** The least that is taken; with fewer there, none is. */
  readonly need: number;
  /** The most that is taken, at least `need`. */
  readonly want: number;
}

export interface TokensTaken {
  readonly taken: number;
  /** What the bucket holds after that. */
  readonly left: number;
}

/** How a process leases tokens. Checked. */
export interface LeaseOptions {
  /** The largest lease of a key, as a share of its burst. 0: every call asks the ledger for its own tokens. */
  readonly share: number;
  /** A lease is as large as what the process needs in so many milliseconds at its present rate. */
  readonly leaseMs: number;
  /** Tokens that were not needed for so long, in milliseconds, are returned. */
  readonly idleMs: number;
  /** How long a call waits for the ledger, in milliseconds, before the process decides alone. */
  readonly callWaitMs: number;
  /** While the ledger is away it is asked again after this many milliseconds. */
  readonly retryMs: number;
  /** The share of the rate that this process has while the ledger is away; `false`: it has none, and `take` throws. */
  readonly localShare: number | false;
  readonly maxKeys: number;
}

/**
 * Numbers of a store with leases. All but `keys`, `leased` and `away` only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/quota.md
 */
export interface LeaseSnapshot {
  /** Keys that are kept. */
  readonly keys: number;
  /** Tokens that this process has leased and not used. */
  readonly leased: number;
  /** Questions to the ledger, returns included. */
  readonly asked: number;
  /** Questions that it did not answer, or not in time. */
  readonly failures: number;
  /** Calls that were answered for this process alone. */
  readonly alone: number;
  /** The ledger did not answer when it was asked last. */
  readonly away: boolean;
}

/**
 * The ledger cannot be reached, and this process has no share of its own.
 *
 * @internal Exported for its tests.
 */
export class LedgerAwayError extends Error {
  override readonly name = "LedgerAwayError";

  constructor(cause: unknown) {
    super("the store that processes share does not answer", { cause });
  }
}

/** Failures are reported at most once in so many milliseconds. */
const reportEveryMs = 1_000;
/** After it had too few tokens, the ledger is asked for a key at most once in so many milliseconds. */
const shortPauseMs = 20;
/** And at least once in so many: other processes return tokens. */
const longestPauseMs = 1_000;
/** Sums of fractions are off by less than this. */
const tolerance = 1e-6;

const granted: QuotaAnswer = Object.freeze({ granted: true });
const grantedAlone: QuotaAnswer = Object.freeze({ granted: true, alone: true });
const never: QuotaShort = Object.freeze({ granted: false, retryAfterMs: Infinity });

/**
 * A quota that several processes share, without a wait on the path of a call: for each key the process leases tokens from a
 * ledger, answers from its lease at once, and asks for the next one before this one is used up. A call waits for the ledger
 * only when it is the first of its key, when it comes after the lease went back, and where the burst is too small to lease.
 *
 * The ledger counts a token when it is leased. Where `most` is the largest lease, `share * burst` (none below 1), and N
 * processes share a key:
 *
 * - From the first call of a key on, all processes together never let more calls pass than the ledger has granted tokens
 *   for: `burst + rate * t`. A lost answer, a process that dies and a store that is closed lose tokens, and make none.
 * - In any other stretch of time, no more than `burst + rate * t + N * most`: what was leased before and is used in it.
 * - No more than `N * most` tokens lie unused in leases, and that for no longer than two times `idleMs`. So many may a call
 *   miss that one bucket would let pass.
 * - While the ledger is away, each process grants what it has leased, and then `localShare * (burst + rate * t)`, at least
 *   one token, from a bucket of its own that is full at first. A ledger that lost its data has a full bucket: once more the
 *   burst.
 */
export class LeasedQuotaStore implements QuotaStore {
  readonly clock: Clock;
  readonly options: LeaseOptions;
  readonly counts = { asked: 0, failures: 0, alone: 0 };
  readonly #ledger: TokenLedger;
  readonly #report: ReportError;
  readonly #where: string;
  readonly #leases: LRUCache<string, Lease>;
  /** The lease that was used last. It is usually the next one too, and the one that cannot have been forgotten. */
  #last: Lease | undefined;
  /** Leases that may hold tokens, or may have to be asked for. */
  readonly #active = new Set<Lease>();
  /** Tokens on their way back. */
  readonly #returns = new Set<Promise<void>>();
  #stopSweep: CancelTask | undefined;
  #closed = false;
  #away = false;
  /** What the ledger failed with last. */
  #failure: unknown;
  #probeAtMs = 0;
  #reportAtMs = -Infinity;

  constructor(
    ledger: TokenLedger,
    options: LeaseOptions,
    clock: Clock,
    report: ReportError,
    where: string,
  ) {
    this.#ledger = ledger;
    this.options = options;
    this.clock = clock;
    this.#report = report;
    this.#where = where;
    this.#leases = new LRUCache({
      // `maxSize`, because with `max` the cache allocates the memory for all keys at once.
      maxSize: options.maxKeys,
      sizeCalculation: () => 1,
      dispose: (lease, _key, reason) => {
        if (reason === "evict") lease.retire();
      },
    });
  }

  take(key: string, cost: number, rate: TokenRate): QuotaAnswer | Promise<QuotaAnswer> {
    return this.#leaseOf(key).take(cost, rate);
  }

  giveBack(key: string, cost: number, rate: TokenRate): void {
    this.#leaseOf(key).put(cost, rate);
  }

  /**
   * Returns all unused tokens. Calls that come later ask the ledger for their own tokens, and hold no lease.
   *
   * @returns When the ledger has them, or does not answer.
   */
  async close(): Promise<void> {
    this.#closed = true;
    this.#stopSweep?.();
    const leases = [...this.#active];
    this.#active.clear();
    for (const lease of leases) lease.giveUp();
    await Promise.all(this.#returns);
  }

  snapshot(): LeaseSnapshot {
    let leased = 0;
    for (const lease of this.#active) leased += lease.left;
    return { keys: this.#leases.size, leased, ...this.counts, away: this.away };
  }

  // ---- For leases.

  get closed(): boolean {
    return this.#closed;
  }

  /** The ledger did not answer when it was asked last, for any key. */
  get away(): boolean {
    return this.#away;
  }

  get failure(): unknown {
    return this.#failure;
  }

  /** Whether it is time to ask a ledger again that is away. Then one key does. */
  probes(nowMs: number): boolean {
    if (nowMs < this.#probeAtMs) return false;
    this.#probeAtMs = nowMs + this.options.retryMs;
    return true;
  }

  exchange(key: string, exchange: TokenExchange, rate: TokenRate): Promise<TokensTaken> {
    this.counts.asked += 1;
    try {
      return this.#ledger.exchange(key, exchange, rate);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Puts tokens back into the ledger. When that fails they are lost. */
  putBack(key: string, back: number, rate: TokenRate): void {
    const returned = this.exchange(key, { back, need: 0, want: 0 }, rate)
      .then(
        () => this.answered(),
        (error: unknown) => this.failed(error),
      )
      .finally(() => this.#returns.delete(returned));
    this.#returns.add(returned);
  }

  answered(): void {
    this.#away = false;
  }

  failed(error: unknown): void {
    const nowMs = this.clock.now();
    this.counts.failures += 1;
    if (!this.#away) this.#probeAtMs = nowMs + this.options.retryMs;
    this.#away = true;
    this.#failure = error;
    if (nowMs < this.#reportAtMs) return;
    this.#reportAtMs = nowMs + reportEveryMs;
    reportSafely(this.#report, error, this.#where);
  }

  /** A lease holds tokens from now on. */
  activate(lease: Lease): void {
    if (this.#closed) return;
    this.#active.add(lease);
    this.#stopSweep ??= this.clock.schedule(this.options.idleMs, () => this.#sweep(), {
      ref: false,
    });
  }

  #sweep(): void {
    this.#stopSweep = undefined;
    for (const lease of this.#active) if (!lease.sweep()) this.#active.delete(lease);
    const [first] = this.#active;
    if (first !== undefined) this.activate(first);
  }

  #leaseOf(key: string): Lease {
    if (this.#last?.key === key) return this.#last;
    let lease = this.#leases.get(key);
    if (lease === undefined) {
      lease = new Lease(key, this);
      this.#leases.set(key, lease);
    }
    this.#last = lease;
    return lease;
  }
}

/** A call that waits for the ledger. */
interface Waiter {
  readonly cost: number;
  /** Since when, in milliseconds on the monotonic clock. */
  readonly sinceMs: number;
  readonly resolve: (answer: QuotaAnswer) => void;
  readonly reject: (error: unknown) => void;
}

/** A question to the ledger that is not answered yet. */
interface Question {
  readonly want: number;
  stopTimer: CancelTask;
  /** The time of the calls that wait for it is up. */
  overdue: boolean;
}

const noRate: TokenRate = { ratePerSecond: 1, burst: 0 };

/** The tokens of one key in this process. */
class Lease {
  readonly key: string;
  readonly #store: LeasedQuotaStore;
  #rate = noRate;
  /** Tokens that can be used at once. */
  left = 0;
  /** How many tokens a lease is to have, by the rate of this process. */
  #target = 0;
  /** Below so many, the next lease is asked for. */
  #low = 0;
  /** Tokens that calls have taken. */
  #spent = 0;
  #spentWhenAsked = 0;
  #spentWhenSwept = 0;
  #askedAtMs = -Infinity;
  /** The ledger had too few tokens: it is not asked before this time, in milliseconds on the monotonic clock. */
  #pauseUntilMs = -Infinity;
  /** And it is expected to have one at this time. */
  #dueMs = -Infinity;
  #waiters: Waiter[] = [];
  #question: Question | undefined;
  /** The tokens of this process while the ledger is away. */
  #own: TokenBucket | undefined;
  #retired = false;

  constructor(key: string, store: LeasedQuotaStore) {
    this.key = key;
    this.#store = store;
  }

  take(cost: number, rate: TokenRate): QuotaAnswer | Promise<QuotaAnswer> {
    if (cost > this.left || this.#waiters.length > 0) return this.#takeSlowly(cost, rate);
    this.#spend(cost);
    if (this.left < this.#low && this.#question === undefined) this.#refill();
    return granted;
  }

  /** Puts back tokens of a call that did not use them. */
  put(cost: number, rate: TokenRate): void {
    this.#rate = rate;
    this.left += cost;
    this.#spent -= cost;
    this.#serve();
    if (this.left - this.#most > tolerance) this.#return(this.left - this.#most);
    this.#store.activate(this);
  }

  /** Returns what is not needed. False when there is nothing to look after any more. */
  sweep(): boolean {
    const used = this.#spent - this.#spentWhenSwept;
    this.#spentWhenSwept = this.#spent;
    if (this.#question !== undefined) return true;
    if (used <= 0) {
      this.giveUp();
      return false;
    }
    const surplus = this.left - this.#target;
    // Not for a part of a token.
    if (surplus >= 1) this.#return(surplus);
    return true;
  }

  /** Its key is used by another lease from now on: what it holds, and what it is still granted, goes back. */
  retire(): void {
    this.#retired = true;
    this.giveUp();
  }

  /** Returns all that is left. */
  giveUp(): void {
    this.#target = this.#low = 0;
    if (this.left > tolerance) this.#return(this.left);
  }

  /** The most tokens that it keeps. */
  get #most(): number {
    const most = this.#store.options.share * this.#rate.burst;
    return most < 1 || this.#retired || this.#store.closed ? 0 : most;
  }

  #spend(cost: number): void {
    this.left -= cost;
    this.#spent += cost;
  }

  // ---- What is not on the path of most calls.

  #takeSlowly(cost: number, rate: TokenRate): QuotaAnswer | Promise<QuotaAnswer> {
    this.#rate = rate;
    if (cost > rate.burst) return never;
    const nowMs = this.#store.clock.now();
    if (this.#question?.overdue === true || this.#store.away) return this.#alone(cost, nowMs);
    if (nowMs < this.#pauseUntilMs && this.#question === undefined) return this.#short(cost, nowMs);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ cost, sinceMs: nowMs, resolve, reject });
      if (this.#question === undefined) this.#ask(nowMs);
    });
  }

  #refill(): void {
    const nowMs = this.#store.clock.now();
    if (this.#store.away) this.#probe(nowMs);
    else if (nowMs >= this.#pauseUntilMs) this.#ask(nowMs);
  }

  /** Asks for what the calls that wait need, and for a lease by the rate at which tokens were taken since the last time. */
  #ask(nowMs: number): void {
    const { leaseMs, callWaitMs } = this.#store.options;
    const most = this.#most;
    let waiting = 0;
    for (const { cost } of this.#waiters) waiting += cost;
    const taken = this.#spent - this.#spentWhenAsked + waiting;
    // A few calls at once are not a rate: a lease has at most twice the tokens that were taken since the last one.
    const target = (taken * leaseMs) / Math.max(leaseMs / 2, nowMs - this.#askedAtMs);
    this.#target = target < 1 ? 0 : Math.min(most, target);
    this.#low = this.#target / 2;
    this.#askedAtMs = nowMs;
    this.#spentWhenAsked = this.#spent;
    const [first] = this.#waiters;
    const need = first === undefined ? 0 : first.cost - this.left;
    const want = Math.max(need, waiting + this.#target - this.left);
    // A call may have waited for an earlier question already.
    const waitMs = callWaitMs - (nowMs - (first?.sinceMs ?? nowMs));
    this.#send(need, want, Math.max(0, waitMs));
    this.#store.activate(this);
  }

  #send(need: number, want: number, waitMs: number): void {
    const { clock } = this.#store;
    const overdue = () => {
      // Node runs due timers before it reads sockets: the answer may be there.
      question.stopTimer = clock.afterPoll(() => {
        question.overdue = true;
        this.#fail(new Error(`no answer in ${Math.round(waitMs)} ms`));
      });
    };
    const stopTimer = clock.schedule(waitMs, overdue, { ref: false });
    const question: Question = { want, overdue: false, stopTimer };
    this.#question = question;
    this.#store.exchange(this.key, { back: 0, need, want }, this.#rate).then(
      (answer) => this.#answered(question, answer),
      (error: unknown) => this.#lost(question, error),
    );
  }

  #answered({ want, stopTimer }: Question, { taken, left }: TokensTaken): void {
    stopTimer();
    this.#question = undefined;
    this.#store.answered();
    this.left += taken;
    this.#serve();
    const nowMs = this.#store.clock.now();
    if (taken < want - tolerance) this.#ranShort(left, nowMs);
    // Where the answer was late, the calls for which it took tokens are gone.
    if (this.left - this.#most > tolerance) this.#return(this.left - this.#most);
    // Calls that came since.
    if (this.#waiters.length > 0) this.#ask(nowMs);
  }

  #lost({ overdue, stopTimer }: Question, error: unknown): void {
    stopTimer();
    this.#question = undefined;
    if (!overdue) this.#fail(error);
  }

  /** The calls that wait are answered for this process alone. */
  #fail(error: unknown): void {
    this.#store.failed(error);
    const nowMs = this.#store.clock.now();
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { cost, resolve, reject } of waiters) {
      try {
        resolve(this.#alone(cost, nowMs));
      } catch (thrown) {
        reject(thrown);
      }
    }
  }

  #serve(): void {
    let served = 0;
    for (const { cost, resolve } of this.#waiters) {
      if (cost > this.left + tolerance) break;
      served += 1;
      this.#spend(cost);
      resolve(granted);
    }
    if (served > 0) this.#waiters = this.#waiters.slice(served);
  }

  /** The ledger had fewer tokens than were wanted, and has `left` now. Those who wait for more are told when to come back. */
  #ranShort(left: number, nowMs: number): void {
    const { ratePerSecond, burst } = this.#rate;
    const toMs = (tokens: number) => (tokens * 1_000) / ratePerSecond;
    const [first] = this.#waiters;
    const waitMs = Math.max(0, toMs((first?.cost ?? 1) - this.left - left));
    // Not longer than a part of the time in which the bucket fills up: what comes in while it is full is lost.
    const pauseMs = Math.min(shortPauseMs, toMs(burst) / 4);
    this.#dueMs = nowMs + Math.max(waitMs, pauseMs);
    this.#pauseUntilMs = Math.min(this.#dueMs, nowMs + longestPauseMs);
    const waiters = this.#waiters;
    this.#waiters = [];
    let before = 0;
    for (const { cost, resolve } of waiters) {
      resolve({ granted: false, retryAfterMs: this.#dueMs - nowMs + toMs(before) });
      before += cost;
    }
  }

  #short(cost: number, nowMs: number): QuotaShort {
    const moreMs = (Math.max(0, cost - 1) * 1_000) / this.#rate.ratePerSecond;
    return { granted: false, retryAfterMs: this.#dueMs - nowMs + moreMs };
  }

  /** @throws LedgerAwayError where this process has no share of its own. */
  #alone(cost: number, nowMs: number): QuotaAnswer {
    this.#probe(nowMs);
    const { localShare, retryMs } = this.#store.options;
    if (localShare === false) throw new LedgerAwayError(this.#store.failure);
    this.#store.counts.alone += 1;
    const { ratePerSecond, burst } = this.#rate;
    this.#own ??= new TokenBucket({
      ratePerSecond: ratePerSecond * localShare,
      burst: Math.max(1, burst * localShare),
    });
    const waitMs = this.#own.take(cost, nowMs);
    // The ledger may be back before that.
    if (waitMs > 0) {
      return { granted: false, alone: true, retryAfterMs: Math.min(waitMs, retryMs) };
    }
    this.#spent += cost;
    return grantedAlone;
  }

  /** Asks a ledger again that is away, for the next lease. No call waits for the answer. */
  #probe(nowMs: number): void {
    if (this.#question === undefined && this.#store.probes(nowMs)) this.#ask(nowMs);
  }

  #return(tokens: number): void {
    this.left -= tokens;
    this.#store.putBack(this.key, tokens, this.#rate);
  }
}
