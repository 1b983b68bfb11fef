import type { Clock } from "../clock.js";
import { durationMs, wholeNumber } from "../options.js";
import { SliceRing } from "./slice-ring.js";

export interface LatencyQuantileOptions {
  /** How far back samples count, in sixths. 1 ms to 24 days. */
  readonly windowMs: number;
  /** With fewer samples than this nothing is known yet. At least 1. @defaultValue 100 */
  readonly minSamples?: number;
}

/** The largest relative error of an estimate, for times between the two bounds below. */
const quantileError = 0.05;

/** Shorter times count as this. */
const shortestMs = 0.1;

/** Longer times count as this: ten minutes. */
const longestMs = 600_000;

/**
 * Each bucket reaches this much further than the one before. Its estimate lies between its ends so
 * that it is off by the same share from both (DDSketch, Masson, Rim and Lee 2019).
 */
const growth = (1 + quantileError) / (1 - quantileError);
const logGrowth = Math.log(growth);
const bucketCount = bucketOf(longestMs) + 1;
/** What the ring counts besides: all samples. */
const samples = bucketCount;

const slices = 6;

/** Readers see one picture for so long, and for so many new samples, before it is drawn anew. */
const freshMs = 10;
const freshSamples = 64;

/**
 * How long one method's attempts have taken lately, as quantiles. Samples fall into buckets that grow
 * by a constant factor, in slices of time that leave the window one by one.
 *
 * Recording takes constant time and allocates nothing but at first. A method costs some 5 kB, once there is a sample.
 *
 * @throws InvalidOptionError when an option is out of range.
 */
export class LatencyQuantile {
  readonly #clock: Pick<Clock, "now">;
  readonly #windowMs: number;
  readonly #minSamples: number;
  /** Samples by bucket, from the first one on. */
  #ring: SliceRing | undefined;

  /** Samples up to each bucket, as of the last reading. */
  #upTo: Uint32Array | undefined;
  #drawnMs = Number.NEGATIVE_INFINITY;
  /** Samples since then; `Infinity` when some have left. */
  #unseen = Number.POSITIVE_INFINITY;

  constructor(options: LatencyQuantileOptions, clock: Pick<Clock, "now">) {
    this.#clock = clock;
    this.#windowMs = durationMs("quantile.windowMs", options.windowMs, 1);
    this.#minSamples = wholeNumber("quantile.minSamples", options.minSamples ?? 100, 1);
  }

  /** Samples in the window. One counts for at least 5/6 of the window and for less than all of it. */
  get count(): number {
    return this.#advance(this.#clock.now());
  }

  /**
   * Adds what one attempt took. What is no time (negative, NaN) is left out.
   *
   * An attempt that was cancelled because another one was faster belongs here too, with the time it had
   * run, if that is more than the quantile in use: without it the slow ones would vanish, the quantile
   * would sink, and hedges would make more hedges.
   */
  record(ms: number): void {
    if (!(ms >= 0)) return;
    this.#ring ??= new SliceRing(this.#windowMs, slices, bucketCount + 1);
    this.#advance(this.#clock.now());
    this.#ring.add(bucketOf(ms));
    this.#ring.add(samples);
    this.#unseen += 1;
  }

  /**
   * The time that a share `q` of the samples did not exceed (nearest rank), within 5 %. `undefined`
   * while there are too few samples. It may miss the last 10 ms, or the last 64 samples of them;
   * what has left the window is never in it.
   *
   * @param q From 0, the shortest, to 1, the longest.
   */
  quantile(q: number): number | undefined {
    const nowMs = this.#clock.now();
    if (this.#advance(nowMs) < this.#minSamples) return undefined;
    const upTo = this.#draw(nowMs);
    const drawn = upTo[bucketCount - 1] ?? 0;
    return estimate(firstAtLeast(upTo, Math.max(1, Math.ceil(q * drawn))));
  }

  /** Samples up to each bucket, as of now or of a moment ago. */
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

  /** Forgets what is too old, and tells how many samples are left. */
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

/** The first place whose number is at least `wanted`; the last one when none is. */
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
