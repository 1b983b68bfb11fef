import fc from "fast-check";
import { expect, it } from "vitest";
import { positionIn, ticksOf } from "../../../viewer-page/src/trace/scale.js";

it.each([
  [{ fromMs: 0, toMs: 486 }, 10, [0, 50, 100, 150, 200, 250, 300, 350, 400, 450]],
  [{ fromMs: 0, toMs: 1 }, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]],
  [{ fromMs: 12.3, toMs: 14 }, 4, [12.5, 13, 13.5, 14]],
  [{ fromMs: -10, toMs: 10 }, 2, [-10, 0, 10]],
  [{ fromMs: 5, toMs: 5 }, 10, []],
])("the scale of %j with %d marks is %j", (range, most, ticks) => {
  expect(ticksOf(range, most)).toEqual(ticks);
});

it("a scale has marks in the range only, at even distances, and not many more than asked for", () => {
  const times = fc.double({ min: 0, max: 1e7, noNaN: true });
  fc.assert(
    fc.property(times, fc.double({ min: 0.001, max: 1e7, noNaN: true }), (fromMs, lengthMs) => {
      const range = { fromMs, toMs: fromMs + lengthMs };
      const ticks = ticksOf(range, 8);
      expect(ticks.length).toBeLessThanOrEqual(10);
      const slackMs = range.toMs * 1e-9;
      for (const tick of ticks) {
        expect(tick).toBeGreaterThanOrEqual(fromMs - slackMs);
        expect(tick).toBeLessThanOrEqual(range.toMs + slackMs);
      }
    }),
  );
});

it("a time stands where it is in the range", () => {
  const range = { fromMs: 10, toMs: 30 };
  expect([10, 15, 30, 50, 0].map((atMs) => positionIn(range, atMs))).toEqual([0, 0.25, 1, 2, -0.5]);
  expect(positionIn({ fromMs: 5, toMs: 5 }, 5)).toBe(0);
});
