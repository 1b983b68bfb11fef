/** What the server did before a surge, while nothing was wrong. */
export interface Calm {
  /** The most calls that ran at once. */
  readonly inFlight: number;
  /** The mean time of calls, in milliseconds. */
  readonly tookMs: number;
  /** Calls per second that were served in time. */
  readonly perSecond: number;
}

/** A surge is judged after at least this many calls have ended. */
const enoughCalls = 20;
/** A surge is judged after at least this many milliseconds. */
const shortestMs = 20;
/** Calls end at a steady rate when the rate is no more than this many times that of the first half. */
const steadyRatio = 1.2;
/** More calls come than are served when they do so by this many standard deviations. */
const pilingDeviations = 2;
/** Fewer calls are served than in the calm when their rate is below this share of it. */
const steadyShare = 0.9;
/** In a surge, a window is no calm when more than this share of its calls took longer than such calls usually take. */
const leastSlowed = 0.25;
/** The ramp never starts below this number: fewer calls fill no queue that matters. */
const leastRamp = 32;
/** There is no ramp where calls take longer, in milliseconds: those that wait for it would wait too long. */
const longestRampedMs = 50;
/** A call that took more than this many times the usual time has waited for others. */
const usualRatio = 1.5;
/** The ramp doubles after it has held calls back for so many milliseconds and none has ended in the usual time. */
const standstillMs = 250;

/**
 * Slow start after a surge, and the test whether the surge fills a queue behind the server (for a connection pool, a lock, a
 * dependency). Latency shows such a queue too late: only when calls have come out of it.
 *
 * **The ramp.** In a surge, no more calls run than the ramp: at first twice as many as ran in the calm before, and two more
 * for each call that ends in its usual time (as in the slow start of TCP, RFC 5681). A server that can do more shows it that
 * way, and the ramp triples with each round of calls; a queue out of sight fills no faster than it is served. The ramp also
 * doubles
 *
 * - when the surge turns out to be no queue, but calls that are just slower;
 * - every 250 ms in which it holds calls back and no call ends in the usual time. The running calls may be of another kind,
 *   such as long polls, or their dependency may be stuck: neither is a reason to serve nobody.
 *
 * **The test.** A surge is judged after twice the usual time of a call. By then a server that can do more would have done
 * more. If calls still come 1.5 times as fast as they are served, which so many would hardly do by chance, and are served as
 * fast as in the calm and no faster than at first, they wait for each other. Calls that are just slow look different: they are
 * served faster and faster, or more slowly than in the calm, or as fast as they come.
 */
export class SlowStart {
  readonly #calm: { inFlight: number; tookMs: number; perSecond: number };
  #rested = false;
  #ramp = Number.POSITIVE_INFINITY;
  /** Since when there is a surge that has not been judged. */
  #sinceMs = Number.NaN;
  /** Since when the ramp has been holding calls back without a call that ended in the usual time. */
  #holdsSinceMs = Number.NaN;
  /** Calls that ran or waited at `#sinceMs`. */
  #demandThen = 0;
  /** Calls that have ended since then, and those of them that were served in time. */
  #ended = 0;
  #served = 0;
  /** Those that were served in the first half of the time until the judgement. */
  #servedEarly = 0;
  /** The rate at which calls are served, while they pile up by the last judgement. */
  #pilesAt: number | undefined;

  /** @param inFlight Twice as many calls are no surge while there has been no calm. */
  constructor(inFlight: number) {
    this.#calm = { inFlight, tookMs: Number.POSITIVE_INFINITY, perSecond: 0 };
  }

  /** There has been a calm. */
  get rested(): boolean {
    return this.#rested;
  }

  /** More than twice as many calls run or wait as in the calm. */
  get #surges(): boolean {
    return !Number.isNaN(this.#sinceMs);
  }

  /** How many calls may run; infinite when nothing is to be found out. */
  get ramp(): number {
    return this.#ramp;
  }

  /**
   * Nothing was wrong in the last window. It is no calm all the same where calls surge and have become slower, or fewer are
   * served: what they do must not count as usual before it is known why.
   *
   * @param slowedShare The share of its calls that took longer than such calls usually take.
   */
  rest({ inFlight, tookMs, perSecond }: Calm, slowedShare = 0): void {
    const fewer = perSecond < steadyShare * this.#calm.perSecond;
    if (this.#rested && this.#surges && (fewer || slowedShare > leastSlowed)) return;
    this.#holdsSinceMs = Number.NaN;
    this.#calm.inFlight = inFlight;
    this.#calm.tookMs = tookMs;
    this.#calm.perSecond = perSecond;
    this.#rested = true;
    this.#ramp =
      tookMs > longestRampedMs ? Number.POSITIVE_INFINITY : Math.max(leastRamp, 2 * inFlight);
  }

  /** Called when the ramp keeps a call from running. */
  holds(nowMs: number): void {
    if (Number.isNaN(this.#holdsSinceMs)) this.#holdsSinceMs = nowMs;
    if (nowMs - this.#holdsSinceMs < standstillMs) return;
    this.#ramp *= 2;
    this.#holdsSinceMs = nowMs;
  }

  /** Something else is wrong: no ramp until the next calm. */
  forget(): void {
    this.#sinceMs = Number.NaN;
    this.#ramp = Number.POSITIVE_INFINITY;
    this.#pilesAt = undefined;
  }

  /**
   * A call has ended. Returns the calls that are served per second when a surge is found to fill a queue.
   *
   * @param demand Calls that run or wait for a slot.
   * @param served It was served in time.
   */
  record(nowMs: number, tookMs: number, demand: number, served = true): number | undefined {
    const calm = this.#calm;
    // Before the first calm, the fastest call stands for the usual time.
    if (!this.#rested) calm.tookMs = Math.min(calm.tookMs, tookMs);
    else if (tookMs <= usualRatio * calm.tookMs) {
      this.#holdsSinceMs = Number.NaN;
      if (demand >= this.#ramp / 2) this.#ramp += 2;
    }
    if (demand <= 2 * calm.inFlight) {
      this.#sinceMs = Number.NaN;
      this.#pilesAt = undefined;
      return undefined;
    }
    if (!this.#surges) {
      this.#begin(nowMs, demand);
      return undefined;
    }
    this.#ended += 1;
    if (served) this.#served += 1;
    const spanMs = nowMs - this.#sinceMs;
    const neededMs = Math.max(shortestMs, 2 * calm.tookMs);
    if (spanMs <= neededMs / 2) this.#servedEarly = this.#served;
    if (this.#ended >= enoughCalls && spanMs >= neededMs) {
      this.#judge(nowMs, demand, spanMs, neededMs);
    }
    return this.#pilesAt;
  }

  #judge(nowMs: number, demand: number, spanMs: number, neededMs: number): void {
    const came = this.#ended + demand - this.#demandThen;
    const perSecond = (this.#served * 1000) / spanMs;
    const earlyPerSecond = (this.#servedEarly * 2000) / neededMs;
    const piling = came >= 1.5 * this.#served && perSecond >= steadyShare * this.#calm.perSecond;
    // So many more can come by chance while as many are served as come: some more calls will tell.
    const chance = pilingDeviations * Math.sqrt(came + this.#served);
    if (piling && came - this.#served <= chance) return;
    const quickens = perSecond > steadyRatio * earlyPerSecond;
    this.#begin(nowMs, demand);
    this.#pilesAt = piling && !quickens ? perSecond : undefined;
    if (this.#pilesAt !== undefined) this.#ramp = Number.POSITIVE_INFINITY;
    // Where calls end faster and faster, the ramp grows by itself. Where they are just slower, it has to grow here.
    if (!piling) this.#ramp *= 2;
  }

  #begin(nowMs: number, demand: number): void {
    this.#sinceMs = nowMs;
    this.#demandThen = demand;
    this.#ended = 0;
    this.#served = 0;
    this.#servedEarly = 0;
  }
}
