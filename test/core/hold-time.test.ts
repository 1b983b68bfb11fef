import { describe, expect, it } from "vitest";
import { HoldTime } from "../../src/core/hold-time.js";

/** Callers leave handlers of some kind; how long is each counted at most, and how does it end? */
function abandoned() {
  const holdTime = new HoldTime(() => 0, 1_000);
  let nowMs = 0;
  return {
    holdTime,
    leave: (kind: string, answersAfterMs: number | undefined) => {
      const sinceMs = nowMs;
      let bound = 0;
      let freed: number | undefined | "not" = "not";
      holdTime.freeWhenOver(
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
    const { holdTime, leave } = abandoned();
    expect(leave("slow", 5_000)).toEqual({ bound: 10_000, freed: 5_000 });
    expect(leave("slow", 6_000)).toEqual({ bound: 10_000, freed: 6_000 });
    expect(leave("slow", undefined).bound).toBe(12_000);
    expect(holdTime.retryAfterMs(1, 1)).toBeGreaterThan(2_000);
  });

  it("is counted by handlers of its own kind: quick ones of another say nothing of it", () => {
    const { holdTime, leave } = abandoned();
    holdTime.record(5_000, "slow");
    for (let call = 0; call < 500; call += 1) holdTime.record(1, "quick");
    expect(leave("slow", undefined).bound).toBe(10_000);
    expect(leave("quick", undefined).bound).toBe(1_000);
  });

  it("is counted for no longer than such handlers take, once three in a row said nothing any more", () => {
    const { holdTime, leave } = abandoned();
    holdTime.record(400, "silent");
    for (let call = 0; call < 3; call += 1) {
      expect(leave("silent", undefined)).toEqual({ bound: 1_000, freed: undefined });
    }
    expect(leave("silent", undefined).bound).toBe(400);
    expect(leave("silent", 300)).toEqual({ bound: 400, freed: 300 });
    expect(leave("silent", undefined).bound).toBe(1_000);
  });

  it("forgets one that took an hour", () => {
    const { holdTime, leave } = abandoned();
    holdTime.record(3_600_000, "m");
    for (let call = 0; call < 1_000; call += 1) holdTime.record(20, "m");
    expect(leave("m", undefined).bound).toBe(1_000);
  });
});
