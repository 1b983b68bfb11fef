import type { Clock } from "./clock.js";
import type { WorksOn } from "./permit.js";
import type { Random } from "./random.js";

/** Weight of the newest call in the average: about the last twenty count. */
const weight = 0.1;

/** Bounds of the advice, in milliseconds. */
const minRetryAfterMs = 20;
const maxRetryAfterMs = 5_000;

/**
 * Keeps an average of how long calls hold a permit, and reckons from it when a refused call is worth
 * trying again: once those ahead of it have had their turn.
 *
 * It is advice and no promise. Each answer is drawn from once to twice the estimate, or a crowd that was
 * refused together would come back together.
 */
export class HoldTime {
  readonly #random: Random;
  #averageMs: number;
  #seen = false;

  /** `guessMs` stands in for the average until the first call has ended. */
  constructor(random: Random, guessMs: number) {
    this.#random = random;
    this.#averageMs = guessMs;
  }

  record(heldMs: number): void {
    this.#averageMs = this.#seen ? this.#averageMs + weight * (heldMs - this.#averageMs) : heldMs;
    this.#seen = true;
  }

  /**
   * Frees what a call holds whose caller has left while its handler works on: when that has answered. A handler that
   * stops without a word would hold it for good, so it does for no longer than a whole call, and that teaches nothing.
   */
  freeWhenOver(
    worksOn: WorksOn,
    sinceMs: number,
    clock: Pick<Clock, "now">,
    free: () => void,
  ): void {
    worksOn(this.#averageMs, (ended) => {
      if (ended) this.record(clock.now() - sinceMs);
      free();
    });
  }

  /** Less than a tenth of the average: no work was done for it. */
  isInstant(heldMs: number): boolean {
    return this.#seen && heldMs < this.#averageMs / 10;
  }

  /**
   * The same in round numbers: multiples of 5, 10 or 100 ms. A server that refuses many calls has few different things to
   * say then, and says them at less cost: what is encoded once, and indexed by the compression of headers, is sent again.
   */
  roundRetryAfterMs(ahead: number, atOnce: number): number {
    const ms = this.retryAfterMs(ahead, atOnce);
    const step = ms < 100 ? 5 : ms < 1_000 ? 10 : 100;
    return Math.ceil(ms / step) * step;
  }

  /** Whole milliseconds from 20 to 5,000 until `ahead` calls have been served, `atOnce` at a time. */
  retryAfterMs(ahead: number, atOnce: number): number {
    const estimateMs = (ahead * this.#averageMs) / atOnce;
    // Bounded before the draw, so that the bounds do not gather the crowd again.
    const boundedMs = Math.min(Math.max(estimateMs, minRetryAfterMs), maxRetryAfterMs / 2);
    return Math.round(boundedMs * (1 + this.#random()));
  }
}
