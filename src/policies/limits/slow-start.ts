/** What is known of the calm before. */
export interface Calm {
  /** The most that ran at once. */
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
/** A ramp never begins below: so few calls fill no queue that matters. */
const leastRamp = 32;
/** Where calls take longer, those who wait for a ramp would wait too long. */
const longestRampedMs = 50;
/** A call that took so many times what is usual has waited for others. */
const usual = 1.5;
/** Where the ramp has held calls back for so long, and none ended as usual, those that run tell nothing of the others. */
const standstillMs = 250;

/**
 * Sees a surge that meets a limit of what is behind the server, before latency tells: a queue that fills from empty is
 * seen in the time of the calls only when they have left it.
 *
 * More calls are there than before, and have been for twice the usual time of a call, in which a server that can do more would
 * have done more. If by then calls still come half as fast again as they end, and they end as fast as before, they are
 * waiting for each other. Where calls only take their time it looks different: they end faster and faster, more slowly than
 * before, or as fast as they come.
 *
 * Until that is known, no more run than the ramp: twice of what ran in the calm, and two more for each call that ends as
 * quickly as ever (slow start, as in TCP's RFC 5681). What can do more shows it by that, and has threefold the calls after each of
 * them; a queue out of sight fills no faster than it is served. Where calls turn out to be slower only, the ramp doubles; and
 * so it does each quarter of a second in which it holds calls back and none ends as usual. Those that run may be of another kind,
 * such as long polls, or their dependency stands still: neither is a reason to serve nobody.
 */
export class SlowStart {
  readonly #calm: { inFlight: number; tookMs: number; perSecond: number };
  #rested = false;
  #ramp = Number.POSITIVE_INFINITY;
  #sinceMs = Number.NaN;
  /** Since when the ramp holds calls back, and none ended as usual. */
  #holdsSinceMs = Number.NaN;
  #demandThen = 0;
  #ended = 0;
  /** Of those, in the first half of the time. */
  #endedEarly = 0;

  /** @param inFlight What may run at once without being a surge, as long as no calm was seen. */
  constructor(inFlight: number) {
    this.#calm = { inFlight, tookMs: Number.POSITIVE_INFINITY, perSecond: 0 };
  }

  /** There was a calm of some time already. */
  get rested(): boolean {
    return this.#rested;
  }

  /** How many may run until it is known what more of them does; infinite while nothing is in doubt. */
  get ramp(): number {
    return this.#ramp;
  }

  /** Nothing was wrong for a while. */
  rest({ inFlight, tookMs, perSecond }: Calm): void {
    this.#holdsSinceMs = Number.NaN;
    this.#calm.inFlight = inFlight;
    this.#calm.tookMs = tookMs;
    this.#calm.perSecond = perSecond;
    this.#rested = true;
    this.#ramp =
      tookMs > longestRampedMs ? Number.POSITIVE_INFINITY : Math.max(leastRamp, 2 * inFlight);
  }

  /** A call waits for the ramp. */
  holds(nowMs: number): void {
    if (Number.isNaN(this.#holdsSinceMs)) this.#holdsSinceMs = nowMs;
    if (nowMs - this.#holdsSinceMs < standstillMs) return;
    this.#ramp *= 2;
    this.#holdsSinceMs = nowMs;
  }

  /** Something else is known to be wrong: there is no ramp until the next calm. */
  forget(): void {
    this.#sinceMs = Number.NaN;
    this.#ramp = Number.POSITIVE_INFINITY;
  }

  /**
   * A call has ended. Answers with the calls that end per second when a surge has met a limit.
   *
   * @param demand Calls that run or wait to be let in.
   */
  record(nowMs: number, tookMs: number, demand: number): number | undefined {
    const calm = this.#calm;
    // Until there has been a calm, the quickest call is the best guess at how long one takes.
    if (!this.#rested) calm.tookMs = Math.min(calm.tookMs, tookMs);
    else if (tookMs <= usual * calm.tookMs) {
      this.#holdsSinceMs = Number.NaN;
      if (demand >= this.#ramp / 2) this.#ramp += 2;
    }
    if (demand <= 2 * calm.inFlight) {
      this.#sinceMs = Number.NaN;
      return undefined;
    }
    if (Number.isNaN(this.#sinceMs)) {
      this.#begin(nowMs, demand);
      return undefined;
    }
    this.#ended += 1;
    const spanMs = nowMs - this.#sinceMs;
    const neededMs = Math.max(shortestMs, 2 * calm.tookMs);
    if (spanMs <= neededMs / 2) this.#endedEarly = this.#ended;
    if (this.#ended < enoughCalls || spanMs < neededMs) return undefined;
    return this.#judge(nowMs, demand, spanMs, neededMs);
  }

  #judge(nowMs: number, demand: number, spanMs: number, neededMs: number): number | undefined {
    const came = this.#ended + demand - this.#demandThen;
    const perSecond = (this.#ended * 1000) / spanMs;
    const earlyPerSecond = (this.#endedEarly * 2000) / neededMs;
    const piling = came >= 1.5 * this.#ended && perSecond >= 0.9 * this.#calm.perSecond;
    const quickens = perSecond > steady * earlyPerSecond;
    this.#begin(nowMs, demand);
    if (piling && !quickens) {
      this.#ramp = Number.POSITIVE_INFINITY;
      return perSecond;
    }
    // What ends faster and faster widens the ramp by itself. Calls that are only slower need more of them.
    if (!piling) this.#ramp *= 2;
    return undefined;
  }

  #begin(nowMs: number, demand: number): void {
    this.#sinceMs = nowMs;
    this.#demandThen = demand;
    this.#ended = 0;
    this.#endedEarly = 0;
  }
}
