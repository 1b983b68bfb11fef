import type { Clock } from "../clock.js";
import { durationMs, wholeNumber } from "../options.js";
import { SliceRing } from "./slice-ring.js";

export interface LatencyQuantileOptions {
  /** How far back samples count, in milliseconds from 1 to 24 days. They are forgotten a sixth of it at a time. */
  readonly windowMs: number;
  /** With fewer samples there is no quantile. A whole number of at least 1. @defaultValue 100 */
  readonly minSamples?: number;
}

/** The largest relative error of a quantile, for times between the two bounds below. */
const quantileError = 0.05;

/** Shorter times count as this many milliseconds. */
const shortestMs = 0.1;

/** Longer times count as this many milliseconds: ten minutes. */
const longestMs = 600_000;

/**
 * The upper bound of a bucket, divided by that of the one before. The estimate of a bucket is off by the same share from both
 * its bounds (DDSketch: Masson, Rim and Lee, 2019).
 */
const growth = (1 + quantileError) / (1 - quantileError);
const logGrowth = Math.log(growth);
const bucketCount = bucketOf(longestMs) + 1;
/** The counter after the buckets: all samples. */
const samples = bucketCount;

const slices = 6;

/** The sums that quantiles are read from are computed again after so many milliseconds or so many new samples. */
const freshMs = 10;
const freshSamples = 64;

/**
 * Quantiles of how long the attempts of one method took recently. Samples are counted in buckets whose bounds grow by a
 * constant factor, in a sliding window of time.
 *
 * `record` takes constant time and allocates nothing, except the first time: then about 5 kB.
 *
 * @throws InvalidOptionError when an option is out of range.
 */
export class LatencyQuantile {
  readonly #clock: Pick<Clock, "now">;
  readonly #windowMs: number;
  readonly #minSamples: number;
  /** Samples by bucket. Absent before the first sample. */
  #ring: SliceRing | undefined;

  /** The samples in each bucket and all before it, as of `#drawnMs`. */
  #upTo: Uint32Array | undefined;
  #drawnMs = Number.NEGATIVE_INFINITY;
  /** Samples since then; `Infinity` when some have left the window. */
  #unseen = Number.POSITIVE_INFINITY;

  constructor(options: LatencyQuantileOptions, clock: Pick<Clock, "now">) {
    this.#clock = clock;
    this.#windowMs = durationMs("quantile.windowMs", options.windowMs, 1);
    this.#minSamples = wholeNumber("quantile.minSamples", options.minSamples ?? 100, 1);
  }

  /** Samples in the window. */
  get count(): number {
    return this.#advance(this.#clock.now());
  }

  /**
   * Adds the time that one attempt took, in milliseconds. A negative time or NaN is ignored.
   *
   * An attempt that was cancelled because another one was faster should be recorded too, with the time it had run, if that is
   * longer than the quantile in use. Otherwise slow attempts would be missing, the quantile would fall, and hedges would cause
   * more hedges.
   *
   * @param nowMs The time now, for a caller that has read the clock.
   */
  record(ms: number, nowMs: number = this.#clock.now()): void {
    if (!(ms >= 0)) return;
    this.#ring ??= new SliceRing(this.#windowMs, slices, bucketCount + 1);
    this.#advance(nowMs);
    this.#ring.add(bucketOf(ms));
    this.#ring.add(samples);
    this.#unseen += 1;
  }

  /**
   * The time in milliseconds that a share `q` of the samples did not exceed (nearest rank), within 5 %. `undefined` while
   * there are too few samples. Samples of the last 10 ms may be missing, up to 64 of them; samples that have left the window
   * never count.
   *
   * @param q From 0, the shortest time, to 1, the longest.
   * @param nowMs The time now, for a caller that has read the clock.
   */
  quantile(q: number, nowMs: number = this.#clock.now()): number | undefined {
    if (this.#advance(nowMs) < this.#minSamples) return undefined;
    const upTo = this.#draw(nowMs);
    const drawn = upTo[bucketCount - 1] ?? 0;
    return estimate(firstAtLeast(upTo, Math.max(1, Math.ceil(q * drawn))));
  }

  /** `#upTo`, computed again where it is too old. */
  #draw(nowMs: number): Uint32Array {
    this.#upTo ??= new Uint32Array(bucketCount);
    if (this.#unseen === 0) return this.#upTo;
    if (this.#unseen < freshSamples && nowMs - this.#drawnMs < freshMs) return this.#upTo;
    let upTo = 0;
    for (let bucket = 0; bucket < bucketCount; bucket += 1) {
      upTo += this.#ring?.total(bucket) ?? 0;
      this.#upTo[bucket] = upTo;
    }
    this.#drawnMs = nowMs;
    this.#unseen = 0;
    return this.#upTo;
  }

  /** Forgets what is too old. Returns how many samples are left. */
  #advance(nowMs: number): number {
    const ring = this.#ring;
    if (ring === undefined) return 0;
    const before = ring.total(samples);
    ring.advance(nowMs);
    const left = ring.total(samples);
    if (left < before) this.#unseen = Number.POSITIVE_INFINITY;
    return left;
  }
}

/** Bucket `b` holds what is above `shortestMs * growth ** (b - 1)`, up to `shortestMs * growth ** b`. */
function bucketOf(ms: number): number {
  if (ms <= shortestMs) return 0;
  return Math.ceil(Math.log(Math.min(ms, longestMs) / shortestMs) / logGrowth);
}

function estimate(bucket: number): number {
  if (bucket === 0) return shortestMs;
  return (2 * shortestMs * growth ** bucket) / (growth + 1);
}

/** The first index whose number is at least `wanted`; the last index when none is. */
function firstAtLeast(ascending: Uint32Array, wanted: number): number {
  let low = 0;
  let high = ascending.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ascending[middle] ?? 0) >= wanted) high = middle;
    else low = middle + 1;
  }
  return low;
}
