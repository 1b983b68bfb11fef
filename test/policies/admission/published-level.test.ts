import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Priority, priorities } from "../../../src/core/priority.js";
import { PublishedLevel } from "../../../src/policies/admission/published-level.js";

function scene() {
  const level = new PublishedLevel();
  const admit = (priority: Priority, times: number, atMs: number) => {
    for (let n = 0; n < times; n += 1) level.admitted(priority, atMs);
  };
  const refuse = (priority: Priority, times: number, atMs: number) => {
    for (let n = 0; n < times; n += 1) level.refused(priority, atMs);
  };
  return { level, admit, refuse };
}

describe("the level of a server", () => {
  it("is none while nothing is refused, and needs no clock to know it", () => {
    const { level, admit } = scene();
    admit("low", 100, 0);
    expect(level.refusing).toBe(false);
    expect(level.level(10)).toBeUndefined();
  });

  it.each([
    ["low", 3],
    ["normal", 2],
    ["high", 1],
  ] as const)(
    "is that of %s once it was refused five times while better calls came in",
    (priority, rank) => {
      const { level, admit, refuse } = scene();
      admit("critical", 10, 0);
      refuse(priority, 4, 10);
      expect(level.level(10)).toBeUndefined();
      refuse(priority, 1, 10);
      expect(level.level(10)).toBe(rank);
    },
  );

  it("is none where some of the priority is served: who stays away would be missed", () => {
    const { level, admit, refuse } = scene();
    admit("normal", 100, 0);
    admit("low", 10, 0);
    refuse("low", 1_000, 10);
    expect(level.level(10)).toBeUndefined();
  });

  it("counts who is worse as well: of them, one in twenty of those let in may be lost", () => {
    const { level, admit, refuse } = scene();
    admit("critical", 95, 0);
    admit("low", 5, 0);
    refuse("normal", 5, 10);
    expect(level.level(10)).toBe(2);
    const other = scene();
    other.admit("critical", 95, 0);
    other.admit("low", 6, 0);
    other.refuse("normal", 5, 10);
    expect(other.level.level(10)).toBeUndefined();
  });

  it("is none in an overload of one priority, however great", () => {
    const { level, admit, refuse } = scene();
    for (let ms = 0; ms < 5_000; ms += 10) {
      admit("normal", 1, ms);
      refuse("normal", 100, ms);
      expect(level.level(ms)).toBeUndefined();
    }
  });

  it("is none when nobody gets in: that is no matter of priority", () => {
    const { level, refuse } = scene();
    refuse("low", 1_000, 0);
    expect(level.level(0)).toBeUndefined();
  });

  it("never dooms critical calls, whatever is refused", () => {
    const { level, admit, refuse } = scene();
    admit("critical", 100, 0);
    for (const priority of priorities) refuse(priority, 100, 0);
    expect(level.level(0)).toBe(1);
  });

  it("is gone a second after the last refusal", () => {
    const { level, admit, refuse } = scene();
    admit("high", 10, 0);
    refuse("low", 5, 0);
    expect(level.level(0)).toBe(3);
    expect(level.level(899)).toBe(3);
    expect(level.level(1_000)).toBeUndefined();
    expect(level.refusing).toBe(false);
  });

  it("looks back a second, to a tenth", () => {
    const { level, admit, refuse } = scene();
    admit("critical", 10, 150);
    refuse("high", 5, 150);
    for (const ms of [150, 300, 1_050]) expect(level.level(ms)).toBe(1);
    expect(level.level(1_150)).toBeUndefined();
  });

  it("is kept up by one refusal within the second", () => {
    const { level, admit, refuse } = scene();
    admit("high", 10, 0);
    refuse("low", 5, 0);
    refuse("low", 1, 900);
    for (const ms of [900, 1_100, 1_500]) expect(level.level(ms)).toBe(3);
    expect(level.level(1_900)).toBeUndefined();
  });

  it("is kept up by a probe that is refused now and then", () => {
    const { level, admit, refuse } = scene();
    admit("high", 10, 0);
    refuse("low", 5, 0);
    expect(level.level(0)).toBe(3);
    for (let ms = 250; ms < 10_000; ms += 250) {
      admit("high", 10, ms);
      refuse("low", 1, ms);
      expect(level.level(ms)).toBe(3);
    }
  });

  it("is lifted by two admissions in a row, and not by one", () => {
    const { level, admit, refuse } = scene();
    admit("high", 100, 0);
    refuse("low", 5, 0);
    expect(level.level(0)).toBe(3);
    admit("low", 1, 10);
    refuse("low", 1, 20);
    admit("low", 1, 30);
    expect(level.level(30)).toBe(3);
    admit("low", 1, 40);
    expect(level.level(40)).toBeUndefined();
    refuse("low", 4, 50);
    expect(level.level(50)).toBeUndefined();
    refuse("low", 1, 60);
    expect(level.level(60)).toBe(3);
  });

  it("is lifted by two of a worse priority that was never refused itself", () => {
    const { level, admit, refuse } = scene();
    admit("critical", 100, 0);
    refuse("normal", 5, 0);
    expect(level.level(0)).toBe(2);
    admit("low", 2, 10);
    expect(level.level(10)).toBeUndefined();
  });

  it("keeps who is worse than those that are served again, though they alone were never refused so often", () => {
    const { level, admit, refuse } = scene();
    admit("critical", 100, 0);
    refuse("normal", 5, 0);
    refuse("low", 1, 0);
    expect(level.level(0)).toBe(2);
    admit("normal", 2, 10);
    expect(level.level(10)).toBe(3);
  });

  it("lets in all that are better than one who is served again, and forgets what was refused to them", () => {
    const { level, admit, refuse } = scene();
    admit("critical", 200, 0);
    for (const priority of ["high", "normal", "low"] as const) refuse(priority, 5, 0);
    expect(level.level(0)).toBe(1);
    admit("low", 2, 10);
    refuse("high", 4, 10);
    refuse("low", 1, 10);
    expect(level.level(10)).toBeUndefined();
    refuse("high", 1, 10);
    expect(level.level(10)).toBe(1);
  });

  it("rises step by step: what is served again is taken out, what is worse stays", () => {
    const { level, admit, refuse } = scene();
    admit("critical", 100, 0);
    refuse("normal", 5, 0);
    refuse("low", 5, 0);
    expect(level.level(0)).toBe(2);
    for (let ms = 100; ms <= 300; ms += 100) {
      admit("normal", 1, ms);
      refuse("low", 1, ms);
    }
    expect(level.level(300)).toBe(3);
  });
});

it("dooms nobody without five refusals, nobody better than was refused, and nobody a second later", () => {
  const step = fc.record({
    priority: fc.constantFrom(...priorities),
    refused: fc.boolean(),
    times: fc.integer({ min: 1, max: 8 }),
    afterMs: fc.constantFrom(0, 1, 100, 500),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (script) => {
      const { level, admit, refuse } = scene();
      let nowMs = 0;
      const refusedOf = { critical: 0, high: 0, normal: 0, low: 0 };
      for (const { priority, refused, times, afterMs } of script) {
        nowMs += afterMs;
        if (refused) refusedOf[priority] += times;
        (refused ? refuse : admit)(priority, times, nowMs);
        const rank = level.level(nowMs);
        if (rank === undefined) continue;
        expect(rank).toBeGreaterThanOrEqual(1);
        const refusals = priorities.slice(0, rank + 1).map((each) => refusedOf[each]);
        expect(refusals.at(-1)).toBeGreaterThan(0);
        // Priorities below a refused one are refused with it, and may stay so when that one is served again.
        expect(Math.max(...refusals)).toBeGreaterThanOrEqual(5);
      }
      expect(level.level(nowMs + 1_000)).toBeUndefined();
    }),
    { numRuns: 500 },
  );
});
