/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/rate.md */
export interface TokenRate {
  /** Tokens that are added per second. */
  readonly ratePerSecond: number;
  /** The most tokens that a bucket holds. */
  readonly burst: number;
}

/**
 * A token bucket. It is full at first, and refilled by the clock when it is used.
 *
 * It keeps no level that would be updated, in which rounding would add up, but when it was last full and how many tokens
 * were taken since. Whether there are enough tokens, and how long until there are, is the same expression, so that a wait is
 * exact.
 */
export class TokenBucket {
  #rate: TokenRate;
  /** When it was last known to be full, in milliseconds on the monotonic clock. */
  #fullAtMs = -Infinity;
  /** Tokens taken since. */
  #taken = 0;

  constructor(rate: TokenRate) {
    this.#rate = rate;
  }

  /**
   * Takes `cost` tokens, all or none.
   *
   * @returns 0 when they are taken; otherwise the milliseconds until there are enough, `Infinity` for more than the burst.
   */
  take(cost: number, nowMs: number): number {
    if (cost > this.#rate.burst) return Infinity;
    this.#refill(nowMs);
    const dueMs = this.#dueMs(cost);
    if (nowMs < dueMs) return dueMs - nowMs;
    this.#taken += cost;
    return 0;
  }

  /**
   * Goes on with another rate. The bucket is as full as before, as a share of its burst: an empty one stays empty, and a full one
   * full.
   */
  reconfigure(rate: TokenRate, nowMs: number): void {
    this.#refill(nowMs);
    const before = this.#rate;
    const addedMs = Math.max(0, nowMs - this.#fullAtMs);
    const missing = Math.max(0, this.#taken - (addedMs * before.ratePerSecond) / 1_000);
    this.#rate = rate;
    this.#fullAtMs = nowMs;
    this.#taken = (missing * rate.burst) / before.burst;
  }

  /**
   * Puts back tokens that were taken and not used. Those beyond the burst are lost. Tokens that were added while these were
   * out stay, though the bucket would have been full: they are at most what the rate adds in that time.
   */
  giveBack(cost: number): void {
    this.#taken -= cost;
  }

  /** When `cost` tokens are there, if no other is taken. */
  #dueMs(cost: number): number {
    const { ratePerSecond, burst } = this.#rate;
    return this.#fullAtMs + ((this.#taken + cost - burst) * 1_000) / ratePerSecond;
  }

  #refill(nowMs: number): void {
    // Not when it is full at exactly this moment: to begin anew then would add a rounding for every token.
    if (nowMs <= this.#dueMs(this.#rate.burst)) return;
    this.#fullAtMs = nowMs;
    this.#taken = 0;
  }
}
