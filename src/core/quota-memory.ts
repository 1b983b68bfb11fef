import { Keyed } from "./keyed.js";
import type { QuotaAnswer, QuotaStore } from "./quota-store.js";
import { TokenBucket, type TokenRate } from "./token-bucket.js";

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
