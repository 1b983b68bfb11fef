import type { Clock } from "../../core/clock.js";

/** Weight of the newest handler in the average: about the last twenty count. */
const weight = 0.1;
/** The bound is asked for anew every so many turns. */
const turnsBetweenLooks = 64;

/**
 * Bounds how much of one turn of the event loop calls take. A handler that computes holds the loop, and no response is sent
 * before the turn is over. A call that starts late in a turn makes all others of the turn late; it loses nothing by waiting
 * for the next turn, where a better call may go first.
 *
 * This needs no learnt limit and no sign of overload. What handlers took in this turn is measured, and for those that have
 * begun and not run yet the average is reckoned. Handlers that do not hold the loop never come near the bound.
 */
export class EventLoopBudget {
  readonly #clock: Pick<Clock, "afterPoll">;
  readonly #maxMs: () => number;
  readonly #onRoom: () => void;
  #limitMs = 0;
  #turns = 0;
  #costMs = 0;
  #spentMs = 0;
  #begun = 0;
  #armed = false;

  /**
   * @param maxMs The most that calls may take of one turn, in milliseconds.
   * @param onRoom Called when a turn in which calls ran is over.
   */
  constructor(clock: Pick<Clock, "afterPoll">, maxMs: () => number, onRoom: () => void) {
    this.#clock = clock;
    this.#maxMs = maxMs;
    this.#onRoom = onRoom;
  }

  /** One more call may begin in this turn. The first of a turn always may. */
  get hasRoom(): boolean {
    const takenMs = this.#spentMs + this.#begun * this.#costMs;
    return takenMs === 0 || takenMs + this.#costMs <= this.#limitMs;
  }

  /** The most handlers that can run in `ms` milliseconds, if nothing else holds the loop. */
  atBestIn(ms: number): number {
    return this.#costMs === 0 ? Number.POSITIVE_INFINITY : ms / this.#costMs;
  }

  /** A call was admitted, and its handler will run. */
  began(): void {
    this.#begun += 1;
    if (this.#costMs > 0) this.#arm();
  }

  /** A handler has held the loop for `tookMs` milliseconds. */
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
      // A call that has begun and not run waits for a message of its caller, which may take long.
      this.#begun = 0;
      this.#onRoom();
    });
  }
}
