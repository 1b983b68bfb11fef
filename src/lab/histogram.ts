/** The width of a bucket: each is this many times as wide as the one before. */
const growth = 1.05;
const smallestMs = 0.01;
const buckets = 400;
const logGrowth = Math.log(growth);

/** Times in milliseconds, in buckets: however many there are, it takes the same memory. A quantile is exact to 5 %. */
export class Histogram {
  readonly #counts = new Uint32Array(buckets);
  #total = 0;

  get total(): number {
    return this.#total;
  }

  add(ms: number): void {
    const bucket = Math.floor(Math.log(Math.max(ms, smallestMs) / smallestMs) / logGrowth);
    const index = Math.min(bucket, buckets - 1);
    this.#counts[index] = (this.#counts[index] ?? 0) + 1;
    this.#total += 1;
  }

  /** The time below which `share` of all lie, from 0 to 1; `undefined` without any. */
  quantile(share: number): number | undefined {
    if (this.#total === 0) return undefined;
    let left = share * this.#total;
    for (let index = 0; index < buckets; index += 1) {
      left -= this.#counts[index] ?? 0;
      if (left <= 0) return smallestMs * growth ** (index + 1);
    }
    return smallestMs * growth ** buckets;
  }
}
