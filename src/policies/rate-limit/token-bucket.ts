/** How many tokens come, and how many can be there at once. */
export interface TokenRate {
  readonly ratePerSecond: number;
  readonly burst: number;
}

/**
 * A token bucket, full at first, refilled by looking at the clock.
 *
 * It keeps no level that has to be brought up to date, and so nothing in which rounding adds up: it remembers when
 * it was last full and what was taken since. "Is there enough now" and "there will be, in so many milliseconds" come
 * from the same expression, so a wait is never too short, and never longer than it has to be.
 */
export class TokenBucket {
  readonly #rate: TokenRate;
  /** When it was last known to be full, in milliseconds on the monotonic clock. */
  #fullAtMs = -Infinity;
  /** Tokens taken since. */
  #taken = 0;

  constructor(rate: TokenRate) {
    this.#rate = rate;
  }

  /**
   * Takes `cost` tokens, all or none. 0: they are taken. Otherwise nothing is, and it is the number of milliseconds
   * until so many are there; `Infinity` when the bucket can not hold so many.
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
   * Puts tokens back that were taken and not used. Beyond the burst they are lost, as any that come then. What came
   * in vain while they were out stays: it is at most what the rate brings in that time.
   */
  giveBack(cost: number): void {
    this.#taken -= cost;
  }

  /** When `cost` tokens are there, if none is taken before. */
  #dueMs(cost: number): number {
    const { ratePerSecond, burst } = this.#rate;
    return this.#fullAtMs + ((this.#taken + cost - burst) * 1_000) / ratePerSecond;
  }

  #refill(nowMs: number): void {
    // Full in this very moment is no rest: a new start here would round the time of every token anew.
    if (nowMs <= this.#dueMs(this.#rate.burst)) return;
    this.#fullAtMs = nowMs;
    this.#taken = 0;
  }
}
