/** How many slices the window is cut into. */
const slices = 20;

/**
 * Requests and accepts of the last while, by rank, forgotten a slice at a time. Times are monotonic milliseconds;
 * one before the newest counts as the newest. All its memory is taken when it is made.
 *
 * @param ranks How many ranks there are: 0 to `ranks - 1`.
 */
export class ThrottleWindow {
  readonly #sliceMs: number;
  readonly #ranks: number;
  /** Slice after slice, in each rank after rank. */
  readonly #requests: Float64Array;
  readonly #accepts: Float64Array;
  readonly #requestTotals: Float64Array;
  readonly #acceptTotals: Float64Array;
  /** Number of the newest slice, counted from the zero of the clock. */
  #newest = Number.NEGATIVE_INFINITY;

  constructor(windowMs: number, ranks: number) {
    this.#sliceMs = windowMs / slices;
    this.#ranks = ranks;
    this.#requests = new Float64Array(slices * ranks);
    this.#accepts = new Float64Array(slices * ranks);
    this.#requestTotals = new Float64Array(ranks);
    this.#acceptTotals = new Float64Array(ranks);
  }

  /** Forgets what is too old at `nowMs`. Constant time, amortised. */
  advance(nowMs: number): void {
    const index = Math.floor(nowMs / this.#sliceMs);
    if (index <= this.#newest) return;
    const passed = Math.min(slices, index - this.#newest);
    this.#newest = index;
    for (let step = 0; step < passed; step += 1) this.#drop(index - step);
  }

  requests(rank: number): number {
    return this.#requestTotals[rank] ?? 0;
  }

  accepts(rank: number): number {
    return this.#acceptTotals[rank] ?? 0;
  }

  /** Counts a request into the newest slice, and tells its number. */
  add(rank: number, accepted: boolean): number {
    this.#count(this.#newest, rank, 1, accepted ? 1 : 0);
    return this.#newest;
  }

  /** What was counted as accepted in a slice was not. One that is forgotten already counts as a request of now. */
  refuse(rank: number, slice: number): void {
    if (this.#holds(slice)) this.#count(slice, rank, 0, -1);
    else this.#count(this.#newest, rank, 1, 0);
  }

  /** What was counted as an accepted request in a slice was none. */
  takeBack(rank: number, slice: number): void {
    if (this.#holds(slice)) this.#count(slice, rank, -1, -1);
  }

  /** What was not accepted was never asked for. */
  forgive(): void {
    this.#requests.set(this.#accepts);
    this.#requestTotals.set(this.#acceptTotals);
  }

  #holds(slice: number): boolean {
    return slice > this.#newest - slices;
  }

  #count(slice: number, rank: number, requests: number, accepts: number): void {
    const at = this.#placeOf(slice) + rank;
    bump(this.#requests, at, requests);
    bump(this.#accepts, at, accepts);
    bump(this.#requestTotals, rank, requests);
    bump(this.#acceptTotals, rank, accepts);
  }

  #drop(slice: number): void {
    const from = this.#placeOf(slice);
    for (let rank = 0; rank < this.#ranks; rank += 1) {
      bump(this.#requestTotals, rank, -(this.#requests[from + rank] ?? 0));
      bump(this.#acceptTotals, rank, -(this.#accepts[from + rank] ?? 0));
      this.#requests[from + rank] = 0;
      this.#accepts[from + rank] = 0;
    }
  }

  #placeOf(slice: number): number {
    return (((slice % slices) + slices) % slices) * this.#ranks;
  }
}

function bump(counts: Float64Array, at: number, by: number): void {
  counts[at] = (counts[at] ?? 0) + by;
}
