import type { ResolvedBreakerOptions } from "./breaker-options.js";
import type { Random } from "./random.js";

/**
 * How long a breaker rests. Each rest is longer than the one before, up to a bound, until probes succeed.
 */
export class Rests {
  readonly #options: ResolvedBreakerOptions;
  readonly #random: Random;
  /** Rests since the breaker was last closed. */
  inARow = 0;

  constructor(options: ResolvedBreakerOptions, random: Random) {
    this.#options = options;
    this.#random = random;
  }

  /**
   * The next rest, in milliseconds.
   *
   * @param askedMs The rest that the other side asked for; it is kept up to the bound, and never cut short by chance.
   */
  next(askedMs: number): number {
    const { openMs, openFactor, maxOpenMs, openJitter } = this.#options;
    const grownMs = Math.min(openMs * openFactor ** this.inARow, maxOpenMs);
    this.inARow += 1;
    const chance = this.#random();
    const ownMs = grownMs * (1 + openJitter * (2 * chance - 1));
    return Math.max(ownMs, Math.min(askedMs, maxOpenMs) * (1 + openJitter * chance));
  }
}
