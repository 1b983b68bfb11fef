import { type CancelTask, type Clock, expireAt } from "../../core/clock.js";
import { Keyed } from "../../core/keyed.js";
import { maxDurationMs } from "../../core/options.js";
import { answerOf, callSafely, type ReportError, reportSafely } from "../../core/user-code.js";
import type { ResolvedRateLimitOptions } from "./options.js";
import type { QuotaAnswer, QuotaStore } from "./store.js";
import { TokenBucket, type TokenRate } from "./token-bucket.js";

/** The answer to a call that asked a store for tokens, also when the store has failed. */
export type StoreAnswer = Granted | Short;

/** The call may go on. */
export interface Granted {
  readonly kind: "granted";
  /** False when the tokens are not those that processes share. The call then has none to give back. */
  readonly taken: boolean;
  /** Set when they are not: what the call goes by, for people. */
  readonly away?: string;
}

/** There are too few tokens. */
export interface Short {
  readonly kind: "short";
  /** Milliseconds until there are enough; `Infinity` for never. */
  readonly retryAfterMs: number;
  /** The store has failed, and it is not known how many tokens there are. */
  readonly failed?: true;
  /** The store has answered for this process alone. */
  readonly alone?: true;
}

/** There will never be enough tokens. */
export const never: Short = Object.freeze({ kind: "short", retryAfterMs: Infinity });

const storeGranted: Granted = Object.freeze({ kind: "granted", taken: true });
const grantedAlone: Granted = Object.freeze({
  kind: "granted",
  taken: false,
  away: "the store is away, so the tokens are those of this process",
});
const allowed: Granted = Object.freeze({
  kind: "granted",
  taken: false,
  away: "the store did not answer, so the call goes on without tokens",
});

/** When a call that is refused for a failed store should come back, in milliseconds. */
const failedRetryMs = 1_000;
/** The shortest `retryAfterMs`: a store may have too few tokens and name no time or 0. */
const minRetryMs = 1;
/** Failures are reported at most once in so many milliseconds, because a store that is down fails every call. */
const reportEveryMs = 1_000;

/**
 * Asks a store for tokens, and always answers: a store that throws, rejects, answers nonsense or takes longer than
 * `storeTimeoutMs` has failed, and `onStoreError` decides. Answers at once where the store does.
 */
export class QuotaClient {
  rate: TokenRate;
  timeoutMs: number;
  readonly clock: Clock;
  /** The store is the user's: the time that it names may be wrong. */
  readonly isForeign: boolean;
  readonly #store: QuotaStore;
  #allows: boolean;
  readonly #report: ReportError;
  readonly #where: string;
  #nextReportMs = -Infinity;
  #failures = 0;
  #away = false;

  constructor(
    store: QuotaStore,
    options: ResolvedRateLimitOptions,
    clock: Clock,
    report: ReportError,
    where: string,
  ) {
    this.rate = options.rate;
    this.timeoutMs = options.storeTimeoutMs;
    this.clock = clock;
    this.isForeign = options.store !== undefined;
    this.#store = store;
    this.#allows = options.onStoreError === "allow";
    this.#report = report;
    this.#where = where;
  }

  /** Goes on with the numbers of these options. The store stays. */
  reconfigure({ rate, storeTimeoutMs, onStoreError }: ResolvedRateLimitOptions): void {
    this.rate = rate;
    this.timeoutMs = storeTimeoutMs;
    this.#allows = onStoreError === "allow";
  }

  /** How often the store has failed. Only grows. */
  get failures(): number {
    return this.#failures;
  }

  /** The store failed when it was asked last, or answered for this process alone. */
  get away(): boolean {
    return this.#away;
  }

  take(key: string, cost: number, nowMs: number): StoreAnswer | PendingTake {
    try {
      const answer = answerOf(() => this.#store.take(key, cost, this.rate, nowMs));
      return answer instanceof Promise
        ? new PendingTake(this, answer, key, cost, nowMs)
        : this.read(answer, cost);
    } catch (error) {
      return this.failed(error);
    }
  }

  giveBack(key: string, cost: number): void {
    const put = () => this.#store.giveBack?.(key, cost, this.rate, this.clock.now());
    callSafely(put, this.#note, this.#where);
  }

  /** @throws TypeError for what is no {@link QuotaAnswer}. */
  read(answer: QuotaAnswer, cost: number): StoreAnswer {
    if (answer?.granted === true) {
      this.#away = answer.alone === true;
      return this.#away ? grantedAlone : storeGranted;
    }
    if (answer?.granted !== false) throw new TypeError("the quota store gave no answer");
    const { retryAfterMs = (cost * 1_000) / this.rate.ratePerSecond } = answer;
    if (typeof retryAfterMs !== "number" || Number.isNaN(retryAfterMs)) {
      throw new TypeError("the quota store named no time");
    }
    this.#away = answer.alone === true;
    // A time beyond the longest duration counts as never.
    if (retryAfterMs > maxDurationMs) return never;
    const short: Short = { kind: "short", retryAfterMs: Math.max(retryAfterMs, 0) || minRetryMs };
    return this.#away ? { ...short, alone: true } : short;
  }

  /** Reports the error, and answers by `onStoreError`. */
  failed(error: unknown): StoreAnswer {
    this.#note(error);
    this.#away = true;
    return this.#allows ? allowed : { kind: "short", retryAfterMs: failedRetryMs, failed: true };
  }

  readonly #note = (error: unknown): void => {
    this.#failures += 1;
    const nowMs = this.clock.now();
    if (nowMs < this.#nextReportMs) return;
    this.#nextReportMs = nowMs + reportEveryMs;
    reportSafely(this.#report, error, this.#where);
  };
}

/** Tokens that a store was asked for, and has not answered yet. */
export class PendingTake {
  readonly kind = "pending";
  readonly #quotaClient: QuotaClient;
  readonly #key: string;
  readonly #cost: number;
  readonly #stopTimer: CancelTask;
  #onAnswer: ((answer: StoreAnswer) => void) | undefined;
  #open = true;
  /** No call would use tokens that are granted from now on: they are given back. */
  #unwanted = false;

  constructor(
    quotaClient: QuotaClient,
    answer: Promise<QuotaAnswer>,
    key: string,
    cost: number,
    nowMs: number,
  ) {
    this.#quotaClient = quotaClient;
    this.#key = key;
    this.#cost = cost;
    const { clock, timeoutMs } = quotaClient;
    this.#stopTimer = expireAt(clock, nowMs + timeoutMs, timeoutMs, () => {
      const late = new Error(`the quota store did not answer in ${timeoutMs} ms`);
      const failed = quotaClient.failed(late);
      // A call that goes on without an answer uses what the store may still grant it, and does not give it back.
      this.#unwanted = failed.kind !== "granted";
      this.#settle(failed);
    });
    answer.then(
      (arrived) => this.#arrived(arrived),
      (error) => {
        if (this.#open) this.#settle(quotaClient.failed(error));
      },
    );
  }

  /** Sets what is called with the answer: once at most, and never before `take` has returned. */
  onAnswer(onAnswer: (answer: StoreAnswer) => void): void {
    this.#onAnswer = onAnswer;
  }

  /** The call does not wait any more. Tokens that are granted later are given back. */
  abandon(): void {
    this.#unwanted = true;
    this.#close();
  }

  #arrived(answer: QuotaAnswer): void {
    if (this.#open) this.#settle(this.#read(answer));
    else if (this.#unwanted && answer?.granted === true && answer.alone !== true) {
      this.#quotaClient.giveBack(this.#key, this.#cost);
    }
  }

  #read(answer: QuotaAnswer): StoreAnswer {
    try {
      return this.#quotaClient.read(answer, this.#cost);
    } catch (error) {
      return this.#quotaClient.failed(error);
    }
  }

  #settle(answer: StoreAnswer): void {
    const onAnswer = this.#onAnswer;
    this.#close();
    onAnswer?.(answer);
  }

  #close(): void {
    this.#open = false;
    this.#onAnswer = undefined;
    this.#stopTimer();
  }
}

const granted: QuotaAnswer = Object.freeze({ granted: true });

/**
 * The tokens of one rate limit in this process: a bucket for each key. Beyond `maxKeys` the bucket used longest ago is
 * forgotten; when its key comes again, it has a full one.
 */
export class MemoryQuotaStore implements QuotaStore {
  readonly #buckets: Keyed<TokenBucket>;
  #rate: TokenRate;

  constructor(rate: TokenRate, maxKeys: number) {
    this.#rate = rate;
    this.#buckets = new Keyed(() => new TokenBucket(this.#rate), maxKeys);
  }

  reconfigure(rate: TokenRate, maxKeys: number, nowMs: number): void {
    this.#rate = rate;
    this.#buckets.resize(maxKeys);
    for (const [, bucket] of this.#buckets.entries()) bucket.reconfigure(rate, nowMs);
  }

  take(key: string, cost: number, _rate: TokenRate, nowMs: number): QuotaAnswer {
    const waitMs = this.#buckets.get(key).take(cost, nowMs);
    return waitMs === 0 ? granted : { granted: false, retryAfterMs: waitMs };
  }

  giveBack(key: string, cost: number): void {
    this.#buckets.get(key).giveBack(cost);
  }
}
