/**
 * The median of the last so many values. Adding one takes constant time and allocates nothing; asking sorts them, so it
 * is for those who ask now and then.
 */
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

  /** `undefined` while there are fewer than `minValues`. */
  median(minValues: number): number | undefined {
    if (this.#added < minValues) return undefined;
    const known = this.#values.slice(0, Math.min(this.#added, this.#values.length)).sort();
    return known[known.length >> 1];
  }
}
