/** What is known of the calm before. */
export interface Calm {
  /** How many ran when calls were admitted, the mean. */
  readonly inFlight: number;
  /** How long calls took, the mean. */
  readonly tookMs: number;
  readonly perSecond: number;
}

/** With fewer calls nothing is said. */
const enoughCalls = 20;
const shortestMs = 20;
/** By how much calls may end faster than they did at first, and still count as ending at one pace. */
const steady = 1.2;

/**
 * Sees a surge that meets a limit of what is behind the server, before latency tells: a queue that fills from empty is
 * seen in the time of the calls only when they have left it.
 *
 * More runs than before, and has done so for twice the usual time of a call, in which a server that can do more would
 * have done more. If by then calls still come half as fast again as they end, and they end as fast as before, they are
 * waiting for each other. Where calls only take their time it looks different: they end faster and faster, more slowly than
 * before, or as fast as they come.
 */
export class Surge {
  #sinceMs = Number.NaN;
  #runningThen = 0;
  #ended = 0;
  /** Of those, in the first half of the time. */
  #endedEarly = 0;

  /** A call has ended. Answers with the calls that end per second when a surge has met a limit. */
  record(nowMs: number, running: number, calm: Calm): number | undefined {
    if (running <= 2 * calm.inFlight) {
      this.#sinceMs = Number.NaN;
      return undefined;
    }
    if (Number.isNaN(this.#sinceMs)) {
      this.#begin(nowMs, running);
      return undefined;
    }
    this.#ended += 1;
    const spanMs = nowMs - this.#sinceMs;
    const neededMs = Math.max(shortestMs, 2 * calm.tookMs);
    if (spanMs <= neededMs / 2) this.#endedEarly = this.#ended;
    if (this.#ended < enoughCalls || spanMs < neededMs) return undefined;
    const came = this.#ended + running - this.#runningThen;
    const perSecond = (this.#ended * 1000) / spanMs;
    const earlyPerSecond = (this.#endedEarly * 2000) / neededMs;
    const waiting =
      came >= 1.5 * this.#ended &&
      perSecond >= 0.9 * calm.perSecond &&
      perSecond <= steady * earlyPerSecond;
    this.#begin(nowMs, running);
    return waiting ? perSecond : undefined;
  }

  #begin(nowMs: number, running: number): void {
    this.#sinceMs = nowMs;
    this.#runningThen = running;
    this.#ended = 0;
    this.#endedEarly = 0;
  }
}
