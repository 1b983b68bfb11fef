import fc from "fast-check";
import { expect, it } from "vitest";
import { countWindow, timeWindow } from "../../../src/core/stats/outcome-window.js";

interface Call {
  readonly atMs: number;
  readonly failed: boolean;
  readonly slow: boolean;
}

const count = (calls: readonly Call[]) => ({
  calls: calls.length,
  failures: calls.filter((call) => call.failed).length,
  slow: calls.filter((call) => call.slow).length,
});

const step = fc.record({
  // Mostly small steps, some across many slices, a few across the whole window and further.
  passMs: fc.oneof(
    { weight: 6, arbitrary: fc.nat(3_000).map((n) => n / 10) },
    { weight: 2, arbitrary: fc.nat(3_000) },
    { weight: 1, arbitrary: fc.nat(1_000_000_000) },
  ),
  failed: fc.boolean(),
  slow: fc.boolean(),
  clear: fc.nat(20).map((n) => n === 0),
});

it("a window by time equals a list of all calls, looked through each time", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -1_000_000, max: 1_000_000_000 }),
      fc.integer({ min: 1, max: 2_000 }),
      fc.integer({ min: 1, max: 12 }),
      fc.array(step, { maxLength: 60, size: "max" }),
      (startMs, spanMs, buckets, steps) => {
        const window = timeWindow({ spanMs, buckets });
        const sliceOf = (ms: number) => Math.floor(ms / (spanMs / buckets));
        let calls: Call[] = [];
        let nowMs = startMs;
        for (const { passMs, failed, slow, clear } of steps) {
          nowMs += passMs;
          if (clear) {
            window.clear();
            calls = [];
          }
          window.record(nowMs, failed, slow);
          calls.push({ atMs: nowMs, failed, slow });
          const recent = calls.filter((call) => sliceOf(nowMs) - sliceOf(call.atMs) < buckets);
          expect({ ...window.totals(nowMs) }).toEqual(count(recent));
        }
      },
    ),
  );
});

it("a window by time keeps what is younger than its span less one slice, nothing beyond its span", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -1_000_000, max: 1_000_000_000 }),
      fc.integer({ min: 1, max: 12 }),
      fc.nat(1_536),
      (recordedMs, buckets, ageMs) => {
        // A slice of a power of two, so that the edges are exact in floating point.
        const sliceMs = 64;
        const spanMs = sliceMs * buckets;
        const window = timeWindow({ spanMs, buckets });
        window.record(recordedMs, true, true);
        const { calls } = window.totals(recordedMs + ageMs);
        if (ageMs <= spanMs - sliceMs) expect(calls).toBe(1);
        if (ageMs >= spanMs) expect(calls).toBe(0);
      },
    ),
  );
});

it("a window by count equals the tail of a list of all calls", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.array(step, { maxLength: 60, size: "max" }),
      (size, steps) => {
        const window = countWindow({ size });
        let calls: Call[] = [];
        for (const { failed, slow, clear } of steps) {
          if (clear) {
            window.clear();
            calls = [];
          }
          window.record(0, failed, slow);
          calls.push({ atMs: 0, failed, slow });
          expect({ ...window.totals(0) }).toEqual(count(calls.slice(-size)));
        }
      },
    ),
  );
});
