import { type CancelTask, type Clock, expireAt } from "../../core/clock.js";
import { Keyed } from "../../core/keyed.js";
import { maxDurationMs } from "../../core/options.js";
import { given, type ReportError, safely, tell } from "../../core/user-code.js";
import type { ResolvedRateLimitOptions } from "./options.js";
import type { QuotaAnswer, QuotaStore } from "./store.js";
import { TokenBucket, type TokenRate } from "./token-bucket.js";

/** What the desk says of a question, once the store has answered or failed. */
export type StoreAnswer = Granted | Short;

/** The call may go on. */
export interface Granted {
  readonly kind: "granted";
  /** False where the store has failed and the call goes on all the same: it has no tokens that it could give back. */
  readonly taken: boolean;
}

/** There is not enough. */
export interface Short {
  readonly kind: "short";
  /** Until there is enough; `Infinity` for never. */
  readonly retryAfterMs: number;
  /** The store has failed; nothing is known of the tokens. */
  readonly failed?: true;
}

/** There will never be enough. */
export const never: Short = Object.freeze({ kind: "short", retryAfterMs: Infinity });

const storeGranted: Granted = Object.freeze({ kind: "granted", taken: true });
const allowed: Granted = Object.freeze({ kind: "granted", taken: false });

/** When to come back to a store that fails, in milliseconds. */
const failedRetryMs = 1_000;
/** For a store that has nothing now and will have it now, in milliseconds. */
const minRetryMs = 1;
/** Failures are reported at most once in so many milliseconds: a store that is down fails every call. */
const reportEveryMs = 1_000;

/**
 * Asks a store for tokens, and has an answer whatever the store does. One that answers at once is answered for at
 * once; a promise is waited for no longer than `storeTimeoutMs`.
 */
export class QuotaClient {
  readonly rate: TokenRate;
  readonly timeoutMs: number;
  readonly clock: Clock;
  /** The store is somebody else's: what it says of the time until there is enough may be wrong. */
  readonly foreign: boolean;
  readonly #store: QuotaStore;
  readonly #allows: boolean;
  readonly #report: ReportError;
  readonly #where: string;
  #nextReportMs = -Infinity;
  #failures = 0;

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
    this.foreign = options.store !== undefined;
    this.#store = store;
    this.#allows = options.onStoreError === "allow";
    this.#report = report;
    this.#where = where;
  }

  /** How often the store has failed. Only grows. */
  get failures(): number {
    return this.#failures;
  }

  take(key: string, cost: number, nowMs: number): StoreAnswer | PendingTake {
    try {
      const said = given(() => this.#store.take(key, cost, this.rate, nowMs));
      return said instanceof Promise
        ? new PendingTake(this, said, key, cost, nowMs)
        : this.read(said, cost);
    } catch (error) {
      return this.failed(error);
    }
  }

  giveBack(key: string, cost: number): void {
    const put = () => this.#store.giveBack?.(key, cost, this.rate, this.clock.now());
    tell(put, this.#note, this.#where);
  }

  /** @throws TypeError for something that is no answer. */
  read(said: QuotaAnswer, cost: number): StoreAnswer {
    if (said?.granted === true) return storeGranted;
    if (said?.granted !== false) throw new TypeError("the quota store gave no answer");
    const { retryAfterMs = (cost * 1_000) / this.rate.ratePerSecond } = said;
    if (typeof retryAfterMs !== "number" || Number.isNaN(retryAfterMs)) {
      throw new TypeError("the quota store named no time");
    }
    // Nobody waits so long: what is further away than any duration comes never.
    if (retryAfterMs > maxDurationMs) return never;
    return { kind: "short", retryAfterMs: Math.max(retryAfterMs, 0) || minRetryMs };
  }

  failed(error: unknown): StoreAnswer {
    this.#note(error);
    return this.#allows ? allowed : { kind: "short", retryAfterMs: failedRetryMs, failed: true };
  }

  readonly #note = (error: unknown): void => {
    this.#failures += 1;
    const nowMs = this.clock.now();
    if (nowMs < this.#nextReportMs) return;
    this.#nextReportMs = nowMs + reportEveryMs;
    safely(this.#report, error, this.#where);
  };
}

/** A question that the store has yet to answer. It is answered once at most. */
export class PendingTake {
  readonly kind = "pending";
  readonly #quotaClient: QuotaClient;
  readonly #key: string;
  readonly #cost: number;
  readonly #stopTimer: CancelTask;
  #onAnswer: ((answer: StoreAnswer) => void) | undefined;
  #open = true;
  /** Tokens that are granted now would be nobody's. */
  #unwanted = false;

  constructor(
    quotaClient: QuotaClient,
    said: Promise<QuotaAnswer>,
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
      const answer = quotaClient.failed(late);
      // A call that goes on without an answer uses what the store may still grant it, and does not give it back.
      this.#unwanted = answer.kind !== "granted";
      this.#settle(answer);
    });
    said.then(
      (answer) => this.#arrived(answer),
      (error) => {
        if (this.#open) this.#settle(quotaClient.failed(error));
      },
    );
  }

  /** Who is told. Nothing is told before the call that asked has returned. */
  listen(onAnswer: (answer: StoreAnswer) => void): void {
    this.#onAnswer = onAnswer;
  }

  /** Nobody waits for the answer any more. Tokens that are granted later are given back. */
  abandon(): void {
    if (!this.#open) return;
    this.#unwanted = true;
    this.#close();
  }

  #arrived(said: QuotaAnswer): void {
    if (this.#open) this.#settle(this.#read(said));
    else if (this.#unwanted && said?.granted === true)
      this.#quotaClient.giveBack(this.#key, this.#cost);
  }

  #read(said: QuotaAnswer): StoreAnswer {
    try {
      return this.#quotaClient.read(said, this.#cost);
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
 * The tokens of one rate in this process: a bucket for each key. Beyond `maxKeys`, those used longest ago are
 * forgotten, and start with a full bucket when they come back.
 */
export class MemoryQuotaStore implements QuotaStore {
  readonly #buckets: Keyed<TokenBucket>;

  constructor(rate: TokenRate, maxKeys: number) {
    this.#buckets = new Keyed(() => new TokenBucket(rate), maxKeys);
  }

  take(key: string, cost: number, _rate: TokenRate, nowMs: number): QuotaAnswer {
    const waitMs = this.#buckets.get(key).take(cost, nowMs);
    return waitMs === 0 ? granted : { granted: false, retryAfterMs: waitMs };
  }

  giveBack(key: string, cost: number): void {
    this.#buckets.get(key).giveBack(cost);
  }
}
