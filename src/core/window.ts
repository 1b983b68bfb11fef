import { durationMs, wholeNumber } from "./options.js";

/** What a window has seen. All three are whole numbers; `failures` and `slow` are parts of `calls`. */
export interface WindowTotals {
  readonly calls: number;
  readonly failures: number;
  readonly slow: number;
}

/**
 * The recent outcomes of calls, forgotten as they age. Times are monotonic milliseconds and may start
 * anywhere. A time before the newest one counts as the newest.
 */
export interface OutcomeWindow {
  /** Adds one finished call. Allocates nothing. */
  record(nowMs: number, failed: boolean, slow: boolean): void;
  /**
   * What the window holds at `nowMs`. The answer is a live view, the same object each time: read it
   * at once, and copy it to keep it.
   */
  totals(nowMs: number): WindowTotals;
  /** Forgets everything. */
  clear(): void;
  /**
   * Forgets everything, and takes over what another window held: as calls of `nowMs`, for how old each was
   * is not known any more. Of more calls than fit, the shares stay.
   */
  refill(nowMs: number, totals: WindowTotals): void;
}

export interface TimeWindowOptions {
  /** How far back the window reaches. 1 ms to 24 days. */
  readonly spanMs: number;
  /** How many slices the span is cut into, 1 to 1_000. Calls are forgotten a slice at a time. */
  readonly buckets: number;
}

export interface CountWindowOptions {
  /** How many calls the window holds, 1 to 1_000_000. One byte each. */
  readonly size: number;
}

/**
 * The calls of the last `spanMs`, in slices as in Hystrix: a call counts for at least
 * `spanMs - spanMs / buckets` and for less than `spanMs`. Each operation takes constant time,
 * amortised, after however long a silence.
 *
 * @throws InvalidOptionError when an option is out of range.
 */
export function timeWindow(options: TimeWindowOptions): OutcomeWindow {
  const spanMs = durationMs("window.spanMs", options.spanMs, 1);
  const buckets = wholeNumber("window.buckets", options.buckets, 1, 1_000);
  return new TimeWindow(spanMs / buckets, buckets);
}

/**
 * The last `size` calls, however old.
 *
 * @throws InvalidOptionError when an option is out of range.
 */
export function countWindow(options: CountWindowOptions): OutcomeWindow {
  return new CountWindow(wholeNumber("window.size", options.size, 1, 1_000_000));
}

class Tally implements WindowTotals {
  calls = 0;
  failures = 0;
  slow = 0;

  count(failed: boolean, slow: boolean): void {
    this.calls += 1;
    if (failed) this.failures += 1;
    if (slow) this.slow += 1;
  }

  add(other: WindowTotals): void {
    this.calls += other.calls;
    this.failures += other.failures;
    this.slow += other.slow;
  }

  subtract(other: WindowTotals): void {
    this.calls -= other.calls;
    this.failures -= other.failures;
    this.slow -= other.slow;
  }

  reset(): void {
    this.calls = 0;
    this.failures = 0;
    this.slow = 0;
  }
}

/** A slice of time in a ring: the one after the newest is the oldest. */
class Bucket extends Tally {
  next: Bucket = this;
}

class TimeWindow implements OutcomeWindow {
  readonly #bucketMs: number;
  readonly #buckets: number;
  readonly #totals = new Tally();
  #newest = new Bucket();
  /** Number of the newest bucket, counted from the zero of the clock. */
  #index = Number.NEGATIVE_INFINITY;

  constructor(bucketMs: number, buckets: number) {
    this.#bucketMs = bucketMs;
    this.#buckets = buckets;
    for (let made = 1; made < buckets; made += 1) {
      const bucket = new Bucket();
      bucket.next = this.#newest.next;
      this.#newest.next = bucket;
    }
  }

  record(nowMs: number, failed: boolean, slow: boolean): void {
    this.#advance(nowMs);
    this.#newest.count(failed, slow);
    this.#totals.count(failed, slow);
  }

  totals(nowMs: number): WindowTotals {
    this.#advance(nowMs);
    return this.#totals;
  }

  clear(): void {
    this.#totals.reset();
    let bucket = this.#newest;
    do {
      bucket.reset();
      bucket = bucket.next;
    } while (bucket !== this.#newest);
  }

  refill(nowMs: number, totals: WindowTotals): void {
    this.#advance(nowMs);
    this.clear();
    this.#newest.add(totals);
    this.#totals.add(totals);
  }

  #advance(nowMs: number): void {
    const index = Math.floor(nowMs / this.#bucketMs);
    const passed = index - this.#index;
    if (passed <= 0) return;
    this.#index = index;
    if (passed >= this.#buckets) {
      // All that was known is too old: one lap is enough, however many have passed.
      this.clear();
      return;
    }
    for (let step = 0; step < passed; step += 1) {
      this.#newest = this.#newest.next;
      this.#totals.subtract(this.#newest);
      this.#newest.reset();
    }
  }
}

const failedBit = 1;
const slowBit = 2;

class CountWindow implements OutcomeWindow {
  readonly #ring: Uint8Array;
  readonly #totals = new Tally();
  /** Where the next call goes; once the ring is full, the oldest call stands there. */
  #cursor = 0;

  constructor(size: number) {
    this.#ring = new Uint8Array(size);
  }

  record(_nowMs: number, failed: boolean, slow: boolean): void {
    const totals = this.#totals;
    if (totals.calls === this.#ring.length) {
      const oldest = this.#ring[this.#cursor] ?? 0;
      totals.calls -= 1;
      if ((oldest & failedBit) !== 0) totals.failures -= 1;
      if ((oldest & slowBit) !== 0) totals.slow -= 1;
    }
    this.#ring[this.#cursor] = (failed ? failedBit : 0) | (slow ? slowBit : 0);
    this.#cursor = (this.#cursor + 1) % this.#ring.length;
    totals.count(failed, slow);
  }

  totals(): WindowTotals {
    return this.#totals;
  }

  clear(): void {
    // What the ring still holds is never read: only a full ring looks at its oldest call.
    this.#totals.reset();
  }

  refill(nowMs: number, { calls, failures, slow }: WindowTotals): void {
    this.clear();
    const kept = Math.min(calls, this.#ring.length);
    const ofKept = (part: number) => Math.round((part / calls) * kept);
    // The bad ones last, so that they are the last to be forgotten.
    const goodOnes = { failures: kept - ofKept(failures), slow: kept - ofKept(slow) };
    for (let call = 0; call < kept; call += 1) {
      this.record(nowMs, call >= goodOnes.failures, call >= goodOnes.slow);
    }
  }
}
