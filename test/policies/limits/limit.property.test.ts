import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SampleWindow } from "../../../src/core/stats/sample-window.js";
import { resolveLimit } from "../../../src/policies/limits/options.js";

const bounds = { min: 3, max: 40 } as const;

const samples = fc.array(
  fc.record({
    gapMs: fc.integer({ min: 0, max: 400 }),
    tookMs: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1e6, noNaN: true })),
    inFlight: fc.integer({ min: 1, max: 2_000 }),
    success: fc.boolean(),
    ceilingMs: fc.option(fc.integer({ min: 1, max: 1_000 }), { nil: undefined }),
  }),
  { maxLength: 400 },
);

describe("elastic", () => {
  it("stays a whole number between its bounds, whatever calls do", () => {
    fc.assert(
      fc.property(samples, (calls) => {
        let now = { ceilingMs: undefined as number | undefined };
        const limit = resolveLimit({ algorithm: "elastic", ...bounds })(
          { ceilingMs: () => now.ceilingMs, demand: () => 0 },
          () => {},
        );
        let nowMs = 0;
        for (const call of calls) {
          now = call;
          nowMs += call.gapMs;
          limit.record(nowMs, call.tookMs, call.inFlight, call.success ? "success" : "failure");
          expect(Number.isInteger(limit.current)).toBe(true);
          expect(limit.current).toBeGreaterThanOrEqual(bounds.min);
          expect(limit.current).toBeLessThanOrEqual(bounds.max);
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe("a window of samples", () => {
  it("says within 5 % what nine of ten did not exceed, and leaves its first window out", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0.1, max: 1e5, noNaN: true }), { minLength: 20, maxLength: 300 }),
        (times) => {
          const window = new SampleWindow(500, 20);
          for (let call = 0; call < 20; call += 1) window.record(call * 50, 1, 1, true);
          const summaries = times.map((took, index) =>
            // The last one closes the window.
            window.record(index === times.length - 1 ? 2_000 : 1_000, took, 7, took < 50),
          );
          expect(summaries.slice(0, -1).every((summary) => summary === undefined)).toBe(true);
          const sorted = [...times].sort((a, b) => a - b);
          const exact = sorted[sorted.length - 1 - Math.floor(sorted.length / 10)] ?? 0;
          expect(window.p90Ms / exact).toBeGreaterThan(0.95);
          expect(window.p90Ms / exact).toBeLessThan(1.05);
          expect(window.samples).toBe(times.length);
          expect(window.maxInFlight).toBe(7);
        },
      ),
    );
  });
});
