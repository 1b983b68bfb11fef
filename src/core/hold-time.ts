import type { Clock } from "./clock.js";
import { Keyed } from "./keyed.js";
import type { WorksOn } from "./permit.js";
import type { Random } from "./random.js";

/** Weight of the newest call in the average: about the last twenty count. */
const weight = 0.1;

/** How long a handler that works on for nobody is counted before anything is known of its kind. */
const unknownMs = 10_000;
/** It is counted for at least so long, where such handlers answer. */
const shortestMs = 1_000;
/** So many in a row that did not answer show that such handlers stop without a word. */
const silentFrom = 3;

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
  readonly #kinds = new Keyed(() => ({ longestMs: 0, silent: 0 }));

  /** `guessMs` stands in for the average until the first call has ended. */
  constructor(random: Random, guessMs: number) {
    this.#random = random;
    this.#averageMs = guessMs;
  }

  /** @param kind What handlers of one kind have in common: their method. */
  record(heldMs: number, kind = ""): void {
    const known = this.#kinds.get(kind);
    // It fades, so that one that took an hour is forgotten some hundred calls later.
    known.longestMs = Math.max(heldMs, known.longestMs * 0.99);
    this.#averageMs = this.#seen ? this.#averageMs + weight * (heldMs - this.#averageMs) : heldMs;
    this.#seen = true;
  }

  /**
   * Frees what a call holds whose caller has left while its handler works on: when that has answered, however long it
   * takes. What such a late answer took is learnt from like any other.
   *
   * A handler that stops without a word when its caller leaves would hold it for good. So it does for no longer than twice
   * the longest that handlers of its kind took of late; and where none of the last three answered, for no longer than that.
   */
  freeWhenOver(
    { worksOn, kind = "" }: { readonly worksOn: WorksOn; readonly kind?: string | undefined },
    sinceMs: number,
    clock: Pick<Clock, "now">,
    free: (tookMs: number | undefined) => void,
  ): void {
    const known = this.#kinds.get(kind);
    const { longestMs, silent } = known;
    const silentMs = longestMs > 0 ? longestMs : shortestMs;
    const maxMs =
      silent >= silentFrom
        ? silentMs
        : longestMs > 0
          ? Math.max(2 * longestMs, shortestMs)
          : unknownMs;
    worksOn(maxMs, (ended) => {
      const tookMs = ended ? clock.now() - sinceMs : undefined;
      known.silent = ended ? 0 : known.silent + 1;
      if (tookMs !== undefined) this.record(tookMs, kind);
      free(tookMs);
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
