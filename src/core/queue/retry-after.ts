import type { Clock, Random } from "../clock.js";
import { Keyed } from "../keyed.js";
import type { WorksOn } from "../permit.js";
import { priorities } from "../priority.js";

/** Weight of the newest call in the average: about the last twenty calls count. */
const weight = 0.1;

/** How long an abandoned handler keeps its permit while nothing is known about handlers of its kind. */
const unknownMs = 10_000;
/** How long it keeps its permit at least, where such handlers do answer. */
const shortestMs = 1_000;
/** After so many abandoned handlers in a row that never answered, such handlers are taken to stop silently. */
const silentFrom = 3;

/** Bounds of the advice, in milliseconds. */
const minRetryAfterMs = 20;
const maxRetryAfterMs = 5_000;

/**
 * Averages how long calls hold a permit, and estimates from it when permits come free. The answer goes to refused calls
 * as the time after which another try is worth it. It is advice and no promise: each answer is drawn at random from once to
 * twice the estimate, so that calls that were refused together do not come back together.
 */
export class RetryAfterEstimate {
  readonly #random: Random;
  #averageMs: number;
  #seen = false;
  readonly #kinds = new Keyed(() => ({ longestMs: 0, silent: 0 }));

  /** @param guessMs Used for the average until the first call has ended. */
  constructor(random: Random, guessMs: number) {
    this.#random = random;
    this.#averageMs = guessMs;
  }

  /**
   * A permit has been given back.
   *
   * @param heldMs How long it was held.
   * @param kind What tells one kind of handler from another: its method.
   */
  record(heldMs: number, kind = ""): void {
    const known = this.#kinds.get(kind);
    // The longest fades, so that one that took an hour is forgotten after some hundred calls.
    known.longestMs = Math.max(heldMs, known.longestMs * 0.99);
    this.#averageMs = this.#seen ? this.#averageMs + weight * (heldMs - this.#averageMs) : heldMs;
    this.#seen = true;
  }

  /**
   * For a call whose caller has left while its handler works on: calls `free` when the handler answers, and records how
   * long it took.
   *
   * A handler may also stop silently when its caller leaves, and would then hold its permit for ever. So `free` is called
   * without a time after twice the longest that handlers of its kind took recently, or after once that time where the last
   * three did not answer.
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

  /** Whether a permit was held for less than a tenth of the average: the call was refused at a glance, and no work done. */
  isInstant(heldMs: number): boolean {
    return this.#seen && heldMs < this.#averageMs / 10;
  }

  /**
   * Estimates in how many milliseconds `permits` permits will have come free.
   *
   * @param atOnce How many permits there are. All of them are out.
   * @param heldMs How long they have been held, on average.
   */
  untilFree(permits: number, atOnce: number, heldMs: number): number {
    const averageMs = this.#averageMs;
    const rounds = Math.floor((permits - 1) / atOnce);
    const nth = permits - rounds * atOnce;
    // When each of them began is not known. Under a steady load they began evenly over the average; in a burst all at once.
    const apartMs = Math.min(heldMs, averageMs / 2) * (1 - 1 / atOnce);
    const ageMs = heldMs + apartMs - ((2 * nth - 1) / atOnce) * apartMs;
    const evenlyMs = (nth * averageMs) / atOnce;
    // A call that has taken longer than the average already is expected to end like any other from now on.
    const leftMs = ageMs > averageMs ? evenlyMs : Math.max(averageMs - ageMs, evenlyMs / 4);
    return rounds * averageMs + leftMs;
  }

  /** How many permits come free in a millisecond, of `atOnce` that are out. */
  perMs(atOnce: number): number {
    return atOnce / Math.max(1, this.#averageMs);
  }

  /** Draws whole milliseconds from 20 to 5,000: `beforeMs`, and once to twice `nextMs`. */
  draw(nextMs: number, beforeMs: number): number {
    const spreadMs = Math.min(Math.max(nextMs, minRetryAfterMs), maxRetryAfterMs / 2);
    // Bounded before the draw: bounding the result would give many calls the same time.
    const boundedMs = Math.min(beforeMs, maxRetryAfterMs / 2 - spreadMs);
    return Math.round(boundedMs + spreadMs * (1 + this.#random()));
  }
}

/** How long an abandoned handler keeps its permit at most, by what is known about its kind. */
function countedMs({ longestMs, silent }: { longestMs: number; silent: number }): number {
  const stops = silent >= silentFrom;
  if (longestMs === 0) return stops ? shortestMs : unknownMs;
  return stops ? longestMs : Math.max(2 * longestMs, shortestMs);
}

/** What stands between a refused call and a permit. */
export interface Ahead {
  /** Calls in the queue. */
  readonly queued: number;
  /** Permits that may be out at once. */
  readonly atOnce: number;
  /** The rank of the refused call; 0 is served first. Refused calls of a worse rank are taken to come back after it. */
  readonly rank: number;
}

/** Of the refused calls that will come back, at most so many times all permits are counted. */
const maxRounds = 4;
/** Room for two calls for each that comes back: they do not come evenly, and one that comes too soon wastes an attempt. */
const roomFor = 2;

/**
 * Estimates when another try of a refused call is worth it, for one pool of permits: after the calls in the queue, and after
 * the calls that were refused before it and will come back sooner.
 */
export class Prospects {
  readonly #retryAfterEstimate: RetryAfterEstimate;
  readonly #clock: Pick<Clock, "now">;
  #running = 0;
  /** The sum of the times at which the running calls began, counted from `#zeroMs`. */
  #beganMs = 0;
  readonly #zeroMs: number;
  /** By rank: an estimate of the refused calls that have not been served since, as of `#awayAtMs`. */
  readonly #away = priorities.map(() => 0);
  #awayAtMs: number;

  constructor(retryAfterEstimate: RetryAfterEstimate, clock: Pick<Clock, "now">) {
    this.#retryAfterEstimate = retryAfterEstimate;
    this.#clock = clock;
    this.#zeroMs = clock.now();
    this.#awayAtMs = this.#zeroMs;
  }

  /** A call was given a permit. */
  began(nowMs: number): void {
    this.#running += 1;
    this.#beganMs += nowMs - this.#zeroMs;
  }

  /** A call that was given a permit at `sinceMs` has given it back. */
  ended(sinceMs: number): void {
    this.#running -= 1;
    this.#beganMs -= sinceMs - this.#zeroMs;
  }

  /** Milliseconds, whole, from 20 to 5,000, after which another try is worth it for a call that is refused now. */
  retryAfterMs({ queued, atOnce, rank }: Ahead, nowMs: number = this.#clock.now()): number {
    const retryAfterEstimate = this.#retryAfterEstimate;
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
   * The same, rounded up to a multiple of 5, 10 or 100 ms. A server that refuses many calls then sends few different values,
   * which costs less: a status that was encoded once is used again, and header compression has it in its table.
   */
  roundRetryAfterMs(ahead: Ahead, nowMs?: number): number {
    const ms = this.retryAfterMs(ahead, nowMs);
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
    const away = this.#away[rank] ?? 0;
    this.#away[rank] = Math.min(away + 1, maxRounds * atOnce);
  }
}
