/** Numbers of a window of calls that has closed. The same object each time: read it before the next `record`. */
export interface WindowSummary {
  readonly samples: number;
  readonly meanMs: number;
  /** The time that nine of ten calls did not exceed: within 5 % where it is below 20 minutes. */
  readonly p90Ms: number;
  /** Calls per second that were served in time. */
  readonly goodPerSecond: number;
  /** How many calls were running when each of these was admitted: the mean. */
  readonly meanInFlight: number;
  /** The same: the maximum. */
  readonly maxInFlight: number;
}

/** The bounds of the buckets grow by a tenth. An estimate is the middle of a bucket, so it is off by less than 5 %. */
const growth = 1.1;
const logGrowth = Math.log(growth);
const shortestMs = 0.05;
const buckets = 180;

/**
 * Sums up calls that have ended, window by window. A window closes after `windowMs`, once it has `minSamples`. Closed by the
 * number of samples alone it would hold the fastest calls, because the slow ones have not ended yet; for the same reason the
 * first window is not reported (as in Netflix concurrency-limits).
 *
 * `record` takes constant time and allocates nothing.
 */
export class SampleWindow implements WindowSummary {
  samples = 0;
  meanMs = 0;
  p90Ms = 0;
  goodPerSecond = 0;
  meanInFlight = 0;
  maxInFlight = 0;
  readonly #windowMs: number;
  readonly #minSamples: number;
  readonly #counts = new Uint32Array(buckets);
  #sinceMs = Number.NaN;
  #first = true;
  #count = 0;
  #good = 0;
  #sumMs = 0;
  #sumInFlight = 0;
  #mostInFlight = 0;

  constructor(windowMs: number, minSamples: number) {
    this.#windowMs = windowMs;
    this.#minSamples = minSamples;
  }

  /** Adds a call. Returns the summary when this call closes a window. */
  record(
    nowMs: number,
    tookMs: number,
    inFlight: number,
    good: boolean,
  ): WindowSummary | undefined {
    if (Number.isNaN(this.#sinceMs)) this.#sinceMs = nowMs;
    this.#count += 1;
    if (good) this.#good += 1;
    this.#sumMs += tookMs;
    this.#sumInFlight += inFlight;
    this.#mostInFlight = Math.max(this.#mostInFlight, inFlight);
    const bucket = bucketOf(tookMs);
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    const spanMs = nowMs - this.#sinceMs;
    if (spanMs < this.#windowMs || this.#count < this.#minSamples) return undefined;
    const first = this.#first;
    this.#first = false;
    this.#close(spanMs);
    this.#sinceMs = nowMs;
    return first ? undefined : this;
  }

  #close(spanMs: number): void {
    const count = this.#count;
    this.samples = count;
    this.meanMs = this.#sumMs / count;
    this.p90Ms = this.#p90();
    this.goodPerSecond = (this.#good * 1000) / spanMs;
    this.meanInFlight = this.#sumInFlight / count;
    this.maxInFlight = this.#mostInFlight;
    this.#count = 0;
    this.#good = 0;
    this.#sumMs = 0;
    this.#sumInFlight = 0;
    this.#mostInFlight = 0;
    this.#counts.fill(0);
  }

  #p90(): number {
    let above = Math.floor(this.#count / 10);
    for (let bucket = buckets - 1; bucket >= 0; bucket -= 1) {
      above -= this.#counts[bucket] ?? 0;
      if (above < 0) return shortestMs * growth ** (bucket + 0.5);
    }
    return 0;
  }
}

function bucketOf(ms: number): number {
  if (!(ms > shortestMs)) return 0;
  return Math.min(buckets - 1, Math.floor(Math.log(ms / shortestMs) / logGrowth));
}

/** The median of the last `size` values. `add` takes constant time; `median` sorts them, so it is for rare use. */
export class RecentMedian {
  readonly #values: Float64Array;
  #added = 0;

  constructor(size: number) {
    this.#values = new Float64Array(size);
  }

  add(value: number): void {
    this.#values[this.#added % this.#values.length] = value;
    this.#added += 1;
  }

  /** `undefined` while fewer than `minValues` were added. */
  median(minValues: number): number | undefined {
    if (this.#added < minValues) return undefined;
    const known = this.#values.slice(0, Math.min(this.#added, this.#values.length)).sort();
    return known[known.length >> 1];
  }
}
