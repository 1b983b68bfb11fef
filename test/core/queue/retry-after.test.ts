import { describe, expect, it } from "vitest";
import { Prospects, RetryAfterEstimate } from "../../../src/core/queue/retry-after.js";

/** Callers leave handlers of some kind; how long is each counted at most, and how does it end? */
function abandoned() {
  const retryAfterEstimate = new RetryAfterEstimate(() => 0, 1_000);
  let nowMs = 0;
  return {
    retryAfterEstimate,
    leave: (kind: string, answersAfterMs: number | undefined) => {
      const sinceMs = nowMs;
      let bound = 0;
      let freed: number | undefined | "not" = "not";
      retryAfterEstimate.freeWhenOver(
        {
          kind,
          worksOn: (maxMs, over) => {
            bound = maxMs;
            const ended = answersAfterMs !== undefined && answersAfterMs <= maxMs;
            nowMs += ended ? answersAfterMs : maxMs;
            over(ended);
          },
        },
        sinceMs,
        { now: () => nowMs },
        (tookMs) => {
          freed = tookMs;
        },
      );
      return { bound, freed };
    },
  };
}

describe("a handler whose caller has left", () => {
  it("is counted until it answers, and teaches how long such handlers take", () => {
    const { retryAfterEstimate, leave } = abandoned();
    expect(leave("slow", 5_000)).toEqual({ bound: 10_000, freed: 5_000 });
    expect(leave("slow", 6_000)).toEqual({ bound: 10_000, freed: 6_000 });
    expect(leave("slow", undefined).bound).toBe(12_000);
    expect(retryAfterEstimate.untilFree(1, 1, 0)).toBeGreaterThan(2_000);
  });

  it("is counted by handlers of its own kind: quick ones of another say nothing of it", () => {
    const { retryAfterEstimate, leave } = abandoned();
    retryAfterEstimate.record(5_000, "slow");
    for (let call = 0; call < 500; call += 1) retryAfterEstimate.record(1, "quick");
    expect(leave("slow", undefined).bound).toBe(10_000);
    expect(leave("quick", undefined).bound).toBe(1_000);
  });

  it("is counted for no longer than such handlers take, once three in a row said nothing any more", () => {
    const { retryAfterEstimate, leave } = abandoned();
    retryAfterEstimate.record(400, "silent");
    for (let call = 0; call < 3; call += 1) {
      expect(leave("silent", undefined)).toEqual({ bound: 1_000, freed: undefined });
    }
    expect(leave("silent", undefined).bound).toBe(400);
    expect(leave("silent", 300)).toEqual({ bound: 400, freed: 300 });
    // One that answered begins another three. The longest time fades by a hundredth with each call that ends.
    const bounds = [1, 2, 3, 4].map(() => leave("silent", undefined).bound);
    expect(bounds).toEqual([1_000, 1_000, 1_000, 396]);
  });

  it("is counted for a second, once three of a kind that never answers said nothing", () => {
    const { leave } = abandoned();
    const bounds = [1, 2, 3, 4].map(() => leave("endless", undefined).bound);
    expect(bounds).toEqual([10_000, 10_000, 10_000, 1_000]);
  });

  it("forgets one that took an hour", () => {
    const { retryAfterEstimate, leave } = abandoned();
    retryAfterEstimate.record(3_600_000, "m");
    for (let call = 0; call < 1_000; call += 1) retryAfterEstimate.record(20, "m");
    expect(leave("m", undefined).bound).toBe(1_000);
  });
});

describe("when another try is worth it", () => {
  /** A pool of permits whose calls take 100 ms. Times count from when it was made. */
  function pool() {
    const madeMs = 987_654;
    let nowMs = madeMs;
    const retryAfterEstimate = new RetryAfterEstimate(() => 0, 1_000);
    retryAfterEstimate.record(100);
    const prospects = new Prospects(retryAfterEstimate, { now: () => nowMs });
    return {
      began: (atMs: number) => prospects.began(madeMs + atMs),
      ended: (sinceMs: number) => prospects.ended(madeMs + sinceMs),
      advance: (ms: number) => {
        nowMs += ms;
      },
      told: (given: { atOnce?: number; queued?: number; rank?: number } = {}) =>
        prospects.retryAfterMs({ atOnce: 1, queued: 0, rank: 2, ...given }),
    };
  }

  it("is a whole call away from one that has just begun, and soon where one is nearly done", () => {
    const at = (ageMs: number) => {
      const { began, advance, told } = pool();
      began(0);
      advance(ageMs);
      return told();
    };
    expect([0, 40, 70, 95].map(at)).toEqual([100, 60, 30, 25]);
    // It takes longer than others do: how much longer is not known.
    expect(at(150)).toBe(100);
  });

  it("goes by when those that run began, and not by when the pool was made", () => {
    const { began, advance, told } = pool();
    advance(20);
    began(20);
    advance(30);
    expect(told()).toBe(70);
  });

  it("goes by those that run, and not by those that have ended", () => {
    const { began, ended, advance, told } = pool();
    began(0);
    advance(80);
    ended(0);
    began(80);
    expect(told()).toBe(100);
    advance(60);
    ended(80);
    began(140);
    advance(10);
    expect(told({ rank: 0 })).toBe(90);
  });

  it("is a whole call away where none runs", () => {
    expect(pool().told()).toBe(100);
  });

  it("goes by how long those that run have done so on average", () => {
    const { began, advance, told } = pool();
    began(0);
    began(20);
    advance(50);
    expect(told({ atOnce: 2 })).toBe(50);
  });

  it("is later for each that has been sent away before, and soon again when they had their time", () => {
    const { began, ended, advance, told } = pool();
    began(0);
    expect([told(), told(), told()]).toEqual([100, 300, 500]);
    advance(600);
    began(600);
    ended(0);
    expect([told(), told()]).toEqual([100, 300]);
  });

  it("is sooner again by as many as can have come back meanwhile, with room for two each", () => {
    const { began, ended, advance, told } = pool();
    began(0);
    for (let call = 0; call < 3; call += 1) told();
    advance(200);
    ended(0);
    began(200);
    expect(told()).toBe(500);
  });

  it("counts who came back meanwhile once, and a part of a call as one that has not", () => {
    const { began, advance, told } = pool();
    began(0);
    for (let call = 0; call < 3; call += 1) told();
    advance(60);
    expect([told(), told()]).toEqual([540, 740]);
  });

  it("takes those of a better priority to have come back first", () => {
    const { began, ended, advance, told } = pool();
    began(0);
    for (const rank of [0, 0, 2]) told({ rank });
    advance(200);
    ended(0);
    began(200);
    expect(told({ rank: 2 })).toBe(500);
  });

  it("is no sooner than the next permit, though one behind it might be free before", () => {
    const { began, advance, told } = pool();
    began(0);
    began(0);
    advance(45);
    told({ atOnce: 2 });
    advance(50);
    expect(told({ atOnce: 2 })).toBe(50);
  });

  it.each([
    [23, 25],
    [40, 40],
    [61, 65],
    [99, 100],
    [101, 110],
    [137, 140],
    [601, 610],
    [999, 1_000],
    [1_000, 1_000],
    [1_001, 1_100],
  ])("is said in round numbers to many: %d ms are %d ms", (ms, round) => {
    const retryAfterEstimate = new RetryAfterEstimate(() => 0, ms);
    const prospects = new Prospects(retryAfterEstimate, { now: () => 0 });
    prospects.began(0);
    expect(prospects.roundRetryAfterMs({ atOnce: 1, queued: 0, rank: 2 })).toBe(round);
  });

  it("does not wait for those who were sent away with a worse priority", () => {
    const { began, told } = pool();
    began(0);
    for (let call = 0; call < 3; call += 1) told({ rank: 3 });
    expect(told({ rank: 1 })).toBe(100);
    expect(told({ rank: 3 })).toBeGreaterThan(800);
  });

  it("is bounded by some rounds, however many have been sent away", () => {
    const { began, told } = pool();
    for (let call = 0; call < 10; call += 1) began(0);
    for (let call = 0; call < 10_000; call += 1) told({ atOnce: 10, rank: call % 4 });
    expect(told({ atOnce: 10, rank: 3 })).toBe(900);
    expect(told({ atOnce: 10, rank: 0 })).toBe(900);
  });
});

describe("when so many permits are free again, where calls take 100 ms", () => {
  const estimate = new RetryAfterEstimate(() => 0, 100);

  it.each([
    ["of one that began just now: when it ends", 1, 1, 0, 100],
    ["of one half done: when it ends", 1, 1, 50, 50],
    ["of one nearly done: not at once", 1, 1, 99, 25],
    ["of one that takes as long as usual: not at once", 1, 1, 100, 25],
    ["of one that takes longer than usual: nobody knows, so a whole call", 1, 1, 150, 100],
    ["of two half done on average: one began sooner", 1, 2, 50, 37.5],
    ["and the other later", 2, 2, 50, 62.5],
    ["the third after the first of them has been followed by another", 3, 2, 50, 137.5],
    ["of two more than half done: they began no further apart than half a call", 1, 2, 60, 27.5],
    ["of two that take longer than usual: half a call", 1, 2, 150, 50],
    ["of four that began at once: all together", 4, 4, 0, 100],
    ["of four that have run for a tenth: they began nearly at once", 1, 4, 10, 84.375],
    ["after rounds", 10, 4, 0, 300],
  ])("%s", (_what, permits, atOnce, heldMs, expected) => {
    expect(estimate.untilFree(permits, atOnce, heldMs)).toBeCloseTo(expected, 9);
  });
});

describe("the time that a call holds a permit", () => {
  it("is that of the first at first, and then goes a tenth of the way with each", () => {
    const estimate = new RetryAfterEstimate(() => 0, 1_000);
    expect(estimate.perMs(3)).toBe(0.003);
    expect(estimate.isInstant(1)).toBe(false);
    estimate.record(200);
    expect(estimate.perMs(3)).toBe(0.015);
    estimate.record(100);
    expect(estimate.perMs(19)).toBeCloseTo(0.1, 9);
    expect(estimate.isInstant(18.9)).toBe(true);
    expect(estimate.isInstant(19)).toBe(false);
  });

  it("that is nothing lets no more than one through in a millisecond", () => {
    const estimate = new RetryAfterEstimate(() => 0, 0);
    expect(estimate.perMs(4)).toBe(4);
  });

  it.each([
    [0, 0, 0, 20],
    [0, 0, 0.999, 40],
    [100, 0, 0, 100],
    [100, 50, 0.5, 200],
    [1e6, 0, 0, 2_500],
    [1e6, 1e6, 0.9999, 5_000],
    [100, 1e6, 0, 2_500],
  ])(
    "gives an advice between its bounds: %d ms after %d ms, drawn at %d, is %d ms",
    (next, before, draw, ms) => {
      expect(new RetryAfterEstimate(() => draw, 100).draw(next, before)).toBe(ms);
    },
  );
});
