/**
 * Counters over a sliding window of time, which is cut into slices and forgets one slice at a time, as in Hystrix: what is
 * counted stays for at least `spanMs - spanMs / slices` and for less than `spanMs`. Times are monotonic milliseconds that may
 * start anywhere; a time before the newest counts as the newest.
 *
 * Every operation takes constant time, amortised. All memory is allocated in the constructor: four bytes for each counter of
 * each slice. Counters are whole numbers from 0 to below 2 ** 32.
 */
export class SliceRing {
  readonly #sliceMs: number;
  readonly #slices: number;
  readonly #counters: number;
  /** Slice after slice, in each counter after counter. */
  readonly #counts: Uint32Array;
  readonly #totals: Uint32Array;
  /** Number of the newest slice, counted from the zero of the clock. */
  #newest = Number.NEGATIVE_INFINITY;
  /** Index of its first counter. */
  #offset = 0;

  /**
   * @param spanMs How far back the window reaches.
   * @param slices How many slices the window has.
   * @param counters How many counters there are. They are named by number, from 0.
   */
  constructor(spanMs: number, slices: number, counters: number) {
    this.#sliceMs = spanMs / slices;
    this.#slices = slices;
    this.#counters = counters;
    this.#counts = new Uint32Array(slices * counters);
    this.#totals = new Uint32Array(counters);
  }

  /** Number of the newest slice. Only `advance` changes it. */
  get newest(): number {
    return this.#newest;
  }

  /** Forgets what is too old at `nowMs`. */
  advance(nowMs: number): void {
    const index = this.sliceAt(nowMs);
    const passed = index - this.#newest;
    if (passed <= 0) return;
    this.#newest = index;
    if (passed >= this.#slices) {
      // Everything is too old.
      this.clear();
      return;
    }
    for (let step = 0; step < passed; step += 1) {
      this.#offset = (this.#offset + this.#counters) % this.#counts.length;
      this.#forgetSlice();
    }
  }

  /** The sum of a counter over all slices. */
  total(counter: number): number {
    return this.#totals[counter] ?? 0;
  }

  /** A counter of one slice that is in the window. */
  within(slice: number, counter: number): number {
    return this.#counts[this.#place(slice, counter)] ?? 0;
  }

  /** Adds to a counter, in the newest slice or in another one that is in the window. */
  add(counter: number, change = 1, slice = this.#newest): void {
    bump(this.#counts, this.#place(slice, counter), change);
    bump(this.#totals, counter, change);
  }

  /** The number of the slice that a time belongs to. */
  sliceAt(ms: number): number {
    return Math.floor(ms / this.#sliceMs);
  }

  /** Whether a slice, which is not newer than the newest, is in the window. */
  holds(slice: number): boolean {
    return slice > this.#newest - this.#slices;
  }

  /** Forgets everything. */
  clear(): void {
    this.#counts.fill(0);
    this.#totals.fill(0);
  }

  #forgetSlice(): void {
    for (let counter = 0; counter < this.#counters; counter += 1) {
      const leaving = this.#counts[this.#offset + counter] ?? 0;
      if (leaving === 0) continue;
      this.#counts[this.#offset + counter] = 0;
      bump(this.#totals, counter, -leaving);
    }
  }

  #place(slice: number, counter: number): number {
    if (slice === this.#newest) return this.#offset + counter;
    const start = this.#offset - (this.#newest - slice) * this.#counters;
    return (start < 0 ? start + this.#counts.length : start) + counter;
  }
}

function bump(counts: Uint32Array, place: number, change: number): void {
  counts[place] = (counts[place] ?? 0) + change;
}
