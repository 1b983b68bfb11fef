import { durationMs, wholeNumber } from "../options.js";
import { SliceRing } from "./slice-ring.js";

/** What a window holds. All three are whole numbers; `failures` and `slow` are included in `calls`. */
export interface WindowTotals {
  readonly calls: number;
  readonly failures: number;
  readonly slow: number;
}

/** The outcomes of recent calls. Times are monotonic milliseconds that may start anywhere, and never decrease. */
export interface OutcomeWindow {
  /** Adds a finished call. Allocates nothing. */
  record(nowMs: number, failed: boolean, slow: boolean): void;
  /** What the window holds at `nowMs`. The same object each time, updated in place: copy it to keep it. */
  totals(nowMs: number): WindowTotals;
  /** Forgets everything. */
  clear(): void;
  /**
   * Replaces everything by what another window held, as calls of `nowMs`: how old each was is not known. When they are more
   * than fit, as many as fit are taken, with the same shares of failures and slow calls.
   */
  refill(nowMs: number, totals: WindowTotals): void;
}

export interface TimeWindowOptions {
  /** How far back the window reaches, in milliseconds from 1 to 24 days. */
  readonly spanMs: number;
  /** How many slices the window has, from 1 to 1,000. Calls are forgotten a slice at a time. */
  readonly buckets: number;
}

export interface CountWindowOptions {
  /** How many calls the window holds, from 1 to 1,000,000. Each takes one byte. */
  readonly size: number;
}

/**
 * A window over the calls of the last `spanMs` milliseconds. See {@link SliceRing}.
 *
 * @throws InvalidOptionError when an option is out of range.
 */
export function timeWindow(options: TimeWindowOptions): OutcomeWindow {
  const spanMs = durationMs("window.spanMs", options.spanMs, 1);
  const buckets = wholeNumber("window.buckets", options.buckets, 1, 1_000);
  return new TimeWindow(spanMs, buckets);
}

/**
 * A window over the last `size` calls, however old they are.
 *
 * @throws InvalidOptionError when an option is out of range.
 */
export function countWindow(options: CountWindowOptions): OutcomeWindow {
  return new CountWindow(wholeNumber("window.size", options.size, 1, 1_000_000));
}

type Tally = { -readonly [K in keyof WindowTotals]: number };

const nothing: WindowTotals = { calls: 0, failures: 0, slow: 0 };

/** The most calls that a window over time takes over: its counters end at 2 ** 32. */
const mostRefilled = 2 ** 31;

/** The counters of the ring. */
const ofCalls = 0;
const ofFailures = 1;
const ofSlow = 2;

class TimeWindow implements OutcomeWindow {
  readonly #ring: SliceRing;
  readonly #totals: Tally = { ...nothing };

  constructor(spanMs: number, buckets: number) {
    this.#ring = new SliceRing(spanMs, buckets, 3);
  }

  record(nowMs: number, failed: boolean, slow: boolean): void {
    this.#ring.advance(nowMs);
    this.#ring.add(ofCalls);
    if (failed) this.#ring.add(ofFailures);
    if (slow) this.#ring.add(ofSlow);
  }

  totals(nowMs: number): WindowTotals {
    const ring = this.#ring;
    const totals = this.#totals;
    ring.advance(nowMs);
    totals.calls = ring.total(ofCalls);
    totals.failures = ring.total(ofFailures);
    totals.slow = ring.total(ofSlow);
    return totals;
  }

  clear(): void {
    this.#ring.clear();
  }

  refill(nowMs: number, totals: WindowTotals): void {
    const { calls, failures, slow } = inShares(totals, mostRefilled);
    this.#ring.advance(nowMs);
    this.#ring.clear();
    this.#ring.add(ofCalls, calls);
    this.#ring.add(ofFailures, failures);
    this.#ring.add(ofSlow, slow);
  }
}

const failedBit = 1;
const slowBit = 2;

class CountWindow implements OutcomeWindow {
  readonly #ring: Uint8Array;
  readonly #totals: Tally = { ...nothing };
  /** Index of the next call. In a full ring, the oldest call stands there. */
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
    totals.calls += 1;
    if (failed) totals.failures += 1;
    if (slow) totals.slow += 1;
  }

  totals(): WindowTotals {
    return this.#totals;
  }

  clear(): void {
    // The ring need not be cleared: only a full ring reads its oldest call.
    Object.assign(this.#totals, nothing);
  }

  refill(nowMs: number, totals: WindowTotals): void {
    this.clear();
    const { calls, failures, slow } = inShares(totals, this.#ring.length);
    // Failures and slow calls last, so that they are forgotten last.
    for (let call = 0; call < calls; call += 1) {
      this.record(nowMs, call >= calls - failures, call >= calls - slow);
    }
  }
}

/** The same shares, of `most` calls at most. */
function inShares(totals: WindowTotals, most: number): WindowTotals {
  if (totals.calls <= most) return totals;
  const ofMost = (part: number) => Math.round((part / totals.calls) * most);
  return { calls: most, failures: ofMost(totals.failures), slow: ofMost(totals.slow) };
}
