import type { ResolvedBreakerOptions } from "./breaker-options.js";
import type { Random } from "./random.js";

/**
 * How long a breaker rests. Each rest is longer than the one before, up to a bound, until the breaker has
 * stayed closed for as long as that bound: one that flaps comes to rest most of the time.
 */
export class Rests {
  readonly #options: ResolvedBreakerOptions;
  readonly #random: Random;
  /** Rests since the breaker was last closed for long. */
  inARow = 0;

  constructor(options: ResolvedBreakerOptions, random: Random) {
    this.#options = options;
    this.#random = random;
  }

  /**
   * The next rest, in milliseconds.
   *
   * @param closedMs How long the breaker was closed before it.
   * @param askedMs The rest that the other side asked for; it is kept up to the bound, and never cut short by chance.
   */
  next(closedMs: number, askedMs: number): number {
    const { openMs, openFactor, maxOpenMs, openJitter } = this.#options;
    if (closedMs >= maxOpenMs) this.inARow = 0;
    const grownMs = Math.min(openMs * openFactor ** this.inARow, maxOpenMs);
    this.inARow += 1;
    const chance = this.#random();
    const ownMs = grownMs * (1 + openJitter * (2 * chance - 1));
    return Math.max(ownMs, Math.min(askedMs, maxOpenMs) * (1 + openJitter * chance));
  }
}
