import type { Clock, Random } from "../clock.js";
import { Keyed } from "../keyed.js";
import type { WorksOn } from "../permit.js";

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
export class RetryAfterEstimate {
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
    worksOn(countedMs(known), (ended) => {
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
   * Milliseconds from now until so many permits have come free, of `atOnce` that are all out; they have been held for
   * `heldMs` on average.
   */
  untilFree(permits: number, atOnce: number, heldMs: number): number {
    const averageMs = this.#averageMs;
    const rounds = Math.floor((permits - 1) / atOnce);
    const nth = permits - rounds * atOnce;
    // Some began sooner and some later; how far apart is not known. In a steady load, evenly over an average; in a burst
    // all at once; one alone is as old as it is.
    const apartMs = Math.min(heldMs, averageMs / 2) * (1 - 1 / atOnce);
    const ageMs = heldMs + apartMs - ((2 * nth - 1) / atOnce) * apartMs;
    const evenlyMs = (nth * averageMs) / atOnce;
    // Of one that has taken longer than the average, that says nothing any more.
    const leftMs = ageMs > averageMs ? evenlyMs : Math.max(averageMs - ageMs, evenlyMs / 4);
    return rounds * averageMs + leftMs;
  }

  /** So many permits come free in a millisecond. */
  perMs(atOnce: number): number {
    return atOnce / Math.max(1, this.#averageMs);
  }

  /** Whole milliseconds from 20 to 5,000: once to twice `nextMs`, after `beforeMs`. */
  draw(nextMs: number, beforeMs = 0): number {
    const spreadMs = Math.min(Math.max(nextMs, minRetryAfterMs), maxRetryAfterMs / 2);
    // Bounded before the draw, so that the bounds do not gather the crowd again.
    const boundedMs = Math.min(beforeMs, maxRetryAfterMs / 2 - spreadMs);
    return Math.round(boundedMs + spreadMs * (1 + this.#random()));
  }
}

/** How long a handler that works on for nobody is counted, by what is known of its kind. */
function countedMs({ longestMs, silent }: { longestMs: number; silent: number }): number {
  const stops = silent >= silentFrom;
  if (longestMs === 0) return stops ? shortestMs : unknownMs;
  return stops ? longestMs : Math.max(2 * longestMs, shortestMs);
}

/** What stands between a refused call and a permit. */
export interface Ahead {
  /** Calls that wait in a queue. */
  readonly queued: number;
  /** Permits that may be out at once. */
  readonly atOnce: number;
  /** Of the refused call: 0 is the best. Those who were sent away with a worse one come after it. */
  readonly rank: number;
}

/** For so many rounds of permits, calls that were sent away are counted as coming back. */
const maxRounds = 4;
/**
 * Calls that come back do not come one exactly after the other, and one that comes back too soon has spent an attempt. So
 * each is given room for two.
 */
const roomFor = 2;

/**
 * Says of the permits of one pool when another try is worth it: when those who wait, and those who were sent away before and
 * come back sooner, have had their turn.
 */
export class Prospects {
  readonly #retryAfterEstimate: RetryAfterEstimate;
  readonly #clock: Pick<Clock, "now">;
  #running = 0;
  /** The sum of the times at which those that run began, from `#zeroMs`. */
  #beganMs = 0;
  readonly #zeroMs: number;
  /** By rank, how many have been sent away and have not had their turn yet, as far as it can be told. */
  readonly #away: number[] = [];
  #awayAtMs: number;

  constructor(retryAfterEstimate: RetryAfterEstimate, clock: Pick<Clock, "now">) {
    this.#retryAfterEstimate = retryAfterEstimate;
    this.#clock = clock;
    this.#zeroMs = clock.now();
    this.#awayAtMs = this.#zeroMs;
  }

  /** A call has got a permit. */
  began(nowMs: number): void {
    this.#running += 1;
    this.#beganMs += nowMs - this.#zeroMs;
  }

  /** It has given it back. */
  ended(sinceMs: number): void {
    this.#running -= 1;
    this.#beganMs -= sinceMs - this.#zeroMs;
  }

  /** Whole milliseconds from 20 to 5,000 until another try of a call that is refused now is worth it. */
  retryAfterMs({ queued, atOnce, rank }: Ahead): number {
    const retryAfterEstimate = this.#retryAfterEstimate;
    const nowMs = this.#clock.now();
    const heldMs = this.#running === 0 ? 0 : nowMs - this.#zeroMs - this.#beganMs / this.#running;
    const before = this.#sentAwayBefore(rank, atOnce, nowMs);
    const nextMs = retryAfterEstimate.untilFree(queued + 1, atOnce, heldMs);
    const thenMs = retryAfterEstimate.untilFree(
      queued + 1 + Math.floor(before * roomFor),
      atOnce,
      heldMs,
    );
    this.#sendAway(rank, atOnce);
    return retryAfterEstimate.draw(nextMs, Math.max(0, thenMs - nextMs));
  }

  /**
   * The same in round numbers: multiples of 5, 10 or 100 ms. A server that refuses many calls has few different things to
   * say then, and says them at less cost: what is encoded once, and indexed by the compression of headers, is sent again.
   */
  roundRetryAfterMs(ahead: Ahead): number {
    const ms = this.retryAfterMs(ahead);
    const step = ms < 100 ? 5 : ms < 1_000 ? 10 : 100;
    return Math.ceil(ms / step) * step;
  }

  #sentAwayBefore(rank: number, atOnce: number, nowMs: number): number {
    let served = ((nowMs - this.#awayAtMs) * this.#retryAfterEstimate.perMs(atOnce)) / roomFor;
    this.#awayAtMs = nowMs;
    let before = 0;
    for (let other = 0; other < this.#away.length; other += 1) {
      const away = this.#away[other] ?? 0;
      const left = Math.max(0, away - served);
      served -= away - left;
      this.#away[other] = left;
      if (other <= rank) before += left;
    }
    return Math.min(before, maxRounds * atOnce);
  }

  #sendAway(rank: number, atOnce: number): void {
    while (this.#away.length <= rank) this.#away.push(0);
    const away = this.#away[rank] ?? 0;
    this.#away[rank] = Math.min(away + 1, maxRounds * atOnce);
  }
}
