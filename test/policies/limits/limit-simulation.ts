import type { Random } from "../../../src/core/clock.js";
import type { Limit } from "../../../src/policies/limits/limit.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";

/** A stretch of time with one load. */
export interface Stretch {
  readonly seconds: number;
  /** Calls offered per second. */
  readonly perSecond: number;
  /** Mean time of a call that waits for nobody. @defaultValue 20 */
  readonly serviceMs?: number;
  /** How many are worked on at once; the rest waits unseen. @defaultValue 50 */
  readonly workers?: number;
  /** Calls of which the limit hears that they ended. @defaultValue exponential */
  readonly draw?: (mean: number, random: Random) => number;
}

/** What became of the calls of a stretch. All but `limit` are shares of what was offered. */
export interface StretchResult {
  readonly rejected: number;
  /** Ended within `goodMs`. */
  readonly good: number;
  /** At the end. */
  readonly limit: number;
  readonly p90Ms: number;
}

export const exponential = (mean: number, random: Random): number => -mean * Math.log(1 - random());
export const constant = (mean: number): number => mean;
export const logNormal = (mean: number, random: Random): number => {
  const gauss = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return mean * Math.exp(gauss - 0.5);
};

/**
 * Calls that come by chance (Poisson) to a server with workers and an unbounded first-come queue that nobody sees; a
 * limit decides who gets in.
 */
export function simulate(
  makeLimit: () => Limit,
  stretches: readonly Stretch[],
  { seed = 1, goodMs = 250 } = {},
): StretchResult[] {
  const random = seededRandom(seed);
  let nowMs = 5_000;
  let workers = 50;
  const limit = makeLimit();
  /** When each worker is free again. */
  let free = new Heap<undefined>();
  const ends = new Heap<{ readonly startedMs: number; readonly inFlight: number }>();
  const settle = (untilMs: number, tookMs: number[]) => {
    for (let end = ends.first(); end !== undefined && end.at <= untilMs; end = ends.first()) {
      ends.pop();
      const took = end.at - end.item.startedMs;
      tookMs.push(took);
      limit.record(end.at, took, end.item.inFlight, took <= 2 * goodMs ? "success" : "failure");
    }
  };
  return stretches.map((stretch) => {
    const { perSecond, serviceMs = 20, draw = exponential } = stretch;
    if ((stretch.workers ?? 50) !== workers) {
      workers = stretch.workers ?? 50;
      free = new Heap();
    }
    while (free.size < workers) free.push(nowMs, undefined);
    const untilMs = nowMs + stretch.seconds * 1000;
    let offered = 0;
    let rejected = 0;
    let good = 0;
    const tookMs: number[] = [];
    for (;;) {
      nowMs += exponential(1000 / perSecond, random);
      if (nowMs >= untilMs) break;
      settle(nowMs, tookMs);
      offered += 1;
      if (ends.size >= limit.current) {
        rejected += 1;
        continue;
      }
      const startMs = Math.max(nowMs, free.pop()?.at ?? nowMs);
      const endMs = startMs + draw(serviceMs, random);
      free.push(endMs, undefined);
      ends.push(endMs, { startedMs: nowMs, inFlight: ends.size + 1 });
      if (endMs - nowMs <= goodMs) good += 1;
    }
    nowMs = untilMs;
    settle(nowMs, tookMs);
    const sorted = tookMs.sort((a, b) => a - b);
    return {
      rejected: rejected / offered,
      good: good / offered,
      limit: limit.current,
      p90Ms: sorted[Math.floor(sorted.length * 0.9)] ?? 0,
    };
  });
}

/** A binary heap, earliest first. */
class Heap<T> {
  readonly #entries: { readonly at: number; readonly item: T }[] = [];

  get size(): number {
    return this.#entries.length;
  }

  first(): { readonly at: number; readonly item: T } | undefined {
    return this.#entries[0];
  }

  push(at: number, item: T): void {
    const entries = this.#entries;
    let place = entries.length;
    const entry = { at, item };
    entries.push(entry);
    while (place > 0) {
      const parent = (place - 1) >> 1;
      const above = entries[parent];
      if (above === undefined || above.at <= at) break;
      entries[place] = above;
      place = parent;
    }
    entries[place] = entry;
  }

  pop(): { readonly at: number; readonly item: T } | undefined {
    const entries = this.#entries;
    const top = entries[0];
    const last = entries.pop();
    if (last === undefined || entries.length === 0) return top;
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      const right = entries[child + 1];
      if (right !== undefined && right.at < (entries[child]?.at ?? 0)) child += 1;
      const below = entries[child];
      if (below === undefined || below.at >= last.at) break;
      entries[place] = below;
      place = child;
    }
    entries[place] = last;
    return top;
  }
}
