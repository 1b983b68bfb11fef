import { SliceRing } from "./slice-ring.js";

/** How many slices the window is cut into. */
const slices = 20;

/**
 * Requests and accepts of the last while, by rank, forgotten a slice at a time.
 *
 * @param ranks How many ranks there are: 0 to `ranks - 1`.
 */
export class ThrottleWindow {
  readonly #ranks: number;
  /** The requests of each rank, then the accepts of each. */
  readonly #ring: SliceRing;

  constructor(windowMs: number, ranks: number) {
    this.#ranks = ranks;
    this.#ring = new SliceRing(windowMs, slices, 2 * ranks);
  }

  /** Forgets what is too old at `nowMs`. */
  advance(nowMs: number): void {
    this.#ring.advance(nowMs);
  }

  requests(rank: number): number {
    return this.#ring.total(rank);
  }

  accepts(rank: number): number {
    return this.#ring.total(this.#ranks + rank);
  }

  /** Counts a request into the newest slice, and tells its number. */
  add(rank: number, accepted: boolean): number {
    this.#ring.add(rank);
    if (accepted) this.#ring.add(this.#ranks + rank);
    return this.#ring.newest;
  }

  /** What was counted as accepted in a slice was not. One that is forgotten already counts as a request of now. */
  refuse(rank: number, slice: number): void {
    if (this.#ring.holds(slice)) this.#ring.add(this.#ranks + rank, -1, slice);
    else this.#ring.add(rank);
  }

  /** What was counted as an accepted request in a slice was none. */
  takeBack(rank: number, slice: number): void {
    if (!this.#ring.holds(slice)) return;
    this.#ring.add(rank, -1, slice);
    this.#ring.add(this.#ranks + rank, -1, slice);
  }

  /** What was not accepted was never asked for. */
  forgive(): void {
    const ring = this.#ring;
    for (let slice = ring.newest; ring.holds(slice); slice -= 1) {
      for (let rank = 0; rank < this.#ranks; rank += 1) {
        ring.add(rank, ring.within(slice, this.#ranks + rank) - ring.within(slice, rank), slice);
      }
    }
  }
}
