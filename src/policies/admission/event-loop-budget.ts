import type { Clock } from "../../core/clock.js";

/** Weight of the newest handler in the average: about the last twenty count. */
const weight = 0.1;
/** A deadline is asked for once in so many turns. */
const turnsBetweenLooks = 64;

/**
 * How much of one turn of the event loop calls may take. A handler that computes holds the loop, and no answer leaves
 * before the turn is over: a call that is let in for its end would only make all others of the turn late. It loses
 * nothing by waiting for the next one, where a better call may go first.
 *
 * So it needs no limit to have been learnt, and no overload to have been seen: what handlers have taken in this turn is
 * counted as they run, and those that have begun and not run yet by what handlers take on average. Handlers that leave
 * the loop alone take next to nothing of it and never meet it.
 */
export class EventLoopBudget {
  readonly #clock: Pick<Clock, "afterPoll">;
  readonly #maxMs: () => number;
  readonly #onGranted: () => void;
  #limitMs = 0;
  #turns = 0;
  #costMs = 0;
  #spentMs = 0;
  #begun = 0;
  #armed = false;

  /**
   * @param maxMs The most that calls may take of a turn, in milliseconds.
   * @param onTurn Told when a turn in which something was taken is over, and there is room again.
   */
  constructor(clock: Pick<Clock, "afterPoll">, maxMs: () => number, onGranted: () => void) {
    this.#clock = clock;
    this.#maxMs = maxMs;
    this.#onGranted = onGranted;
  }

  /** One more may begin in this turn. The first of a turn always may. */
  get hasRoom(): boolean {
    const takenMs = this.#spentMs + this.#begun * this.#costMs;
    return takenMs === 0 || takenMs + this.#costMs <= this.#limitMs;
  }

  /** So many handlers are through in some time, at best: if nothing but they had the loop. */
  atBestIn(ms: number): number {
    return this.#costMs === 0 ? Number.POSITIVE_INFINITY : ms / this.#costMs;
  }

  /** A call was let in, and its handler will run. */
  began(): void {
    this.#begun += 1;
    if (this.#costMs > 0) this.#arm();
  }

  /** A handler has held the loop for so long. */
  ran(tookMs: number): void {
    if (this.#begun > 0) this.#begun -= 1;
    this.#costMs += (this.#costMs === 0 ? 1 : weight) * (tookMs - this.#costMs);
    this.#spentMs += tookMs;
    if (tookMs > 0) this.#arm();
  }

  #arm(): void {
    if (this.#armed) return;
    this.#armed = true;
    if (this.#turns % turnsBetweenLooks === 0) this.#limitMs = this.#maxMs();
    this.#turns += 1;
    this.#clock.afterPoll(() => {
      this.#armed = false;
      this.#spentMs = 0;
      // Who has begun and not run waits for a message of its caller, and may do so for long.
      this.#begun = 0;
      this.#onGranted();
    });
  }
}
