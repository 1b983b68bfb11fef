/** The share of calls that a breaker lets through when it has just closed. */
const firstShare = 0.25;

/**
 * The way from a few probes back to all calls: a share that grows evenly from a quarter to all. A target
 * that has just recovered often has cold caches and no connections, and a flood would close it again.
 */
export class Ramp {
  /** When all calls pass again, on the monotonic clock. */
  readonly untilMs: number;
  readonly #spanMs: number;
  /** Calls that it has let through and that have not ended. */
  running = 0;

  /** @param leftMs How much of `spanMs` is still to come; all of it when it is more. */
  constructor(nowMs: number, spanMs: number, leftMs: number) {
    this.#spanMs = spanMs;
    this.untilMs = nowMs + Math.min(leftMs, spanMs);
  }

  /** From 0.25 to 1. */
  shareAt(nowMs: number): number {
    const toCome = (this.untilMs - nowMs) / this.#spanMs;
    return 1 - (1 - firstShare) * toCome;
  }
}
