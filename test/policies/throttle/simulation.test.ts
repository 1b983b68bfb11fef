import { describe, expect, it } from "vitest";
import { mean, simulate } from "./throttle-scene.js";

const seeds = [1, 2, 3];

describe.each(seeds)("a throttled client in world %i", (seed) => {
  it.each([1.1, 1.5, 2])("sends near K = %d times what an overloaded target serves", (k) => {
    const seconds = simulate({ k }, { normal: 200 }, 120, { capacity: () => 50, seed });
    const { sent, served } = mean(seconds, 70, 120).all;
    expect(sent / served).toBeGreaterThan(k - 0.1);
    // Near to 1, a target is sent less than it could serve for seconds, which looks like its recovery.
    expect(sent / served).toBeLessThan(k < 1.5 ? 2 : k + 0.1);
    // The nearer K is to 1, the more often the target waits for work that is held back.
    expect(served).toBeGreaterThan(50 * (k < 1.5 ? 0.5 : 0.9));
  });

  it("does so with nothing but the lowest priority too", () => {
    const seconds = simulate({}, { low: 200 }, 120, { capacity: () => 50, seed });
    const { sent, served } = mean(seconds, 70, 120).all;
    expect(served).toBeGreaterThan(45);
    expect(sent).toBeLessThan(80);
  });

  it.each([
    [1.1, 4],
    [1.5, 2],
    [2, 2],
  ])("with K = %d sends everything again within %d s of the target's recovery", (k, within) => {
    for (const before of [0, 50]) {
      const seconds = simulate({ k }, { normal: 200 }, 140, {
        capacity: (second) => (second < 100 ? before : 1_000),
        seed,
      });
      expect(mean(seconds, 90, 100).all.sent).toBeLessThan(k < 1.5 ? 110 : 27 + 2 * before);
      const after = mean(seconds, 100 + within, 140).all;
      expect(after.sent).toBeCloseTo(200);
      expect(after.served).toBeCloseTo(200);
    }
  });

  it("without its own recovery sends everything again within four windows, more and more", () => {
    const seconds = simulate({ recoveryMs: 1e9 }, { normal: 200 }, 350, {
      capacity: (second) => (second < 100 ? 0 : 1_000),
      seed,
    });
    const after = [90, 140, 180, 220, 340].map((from) => mean(seconds, from, from + 10).all.sent);
    expect(after[0]).toBeLessThan(27);
    expect(after).toEqual(after.toSorted((a, b) => a - b));
    expect(after.at(-1)).toBeGreaterThan(190);
  });

  it("sends everything at all times to a target that serves it", () => {
    const seconds = simulate({}, { normal: 200, low: 100 }, 60, { capacity: () => 1_000, seed });
    expect(mean(seconds, 0, 60).all).toMatchObject({ sent: 300, served: 300 });
  });

  it.each([true, false])(
    "holds back from the lowest priority on (the target knows priorities: %s)",
    (byPriority) => {
      const asks = { critical: 50, high: 50, normal: 50, low: 50 };
      const seconds = simulate({}, asks, 120, { capacity: () => 100, byPriority, seed });
      const { by } = mean(seconds, 70, 120);
      expect(by.critical.sent).toBeGreaterThan(46);
      expect(by.high.sent).toBeGreaterThan(44);
      if (!byPriority) expect(by.normal.sent).toBeGreaterThan(20);
      expect(by.low.sent).toBeLessThan(10);
      expect(by.critical.sent).toBeGreaterThanOrEqual(by.high.sent);
      if (byPriority) expect(by.critical.served + by.high.served).toBeGreaterThan(92);
    },
  );

  it("lets one call a second through to a dead target at least", () => {
    const rare = simulate({}, { normal: 1 }, 100, { capacity: () => 0, seed });
    expect(mean(rare, 50, 100).all.sent).toBeCloseTo(1);
    const busy = simulate({ maxRefusedShare: 1 }, { normal: 200 }, 200, {
      capacity: () => 0,
      seed,
    });
    expect(mean(busy, 100, 200).all.sent).toBeGreaterThanOrEqual(0.99);
    expect(mean(busy, 100, 200).all.sent).toBeLessThan(3.5);
  });
});
