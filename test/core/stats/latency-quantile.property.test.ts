import fc from "fast-check";
import { expect, it } from "vitest";
import { LatencyQuantile } from "../../../src/core/stats/latency-quantile.js";
import { fakeClock } from "../fake-clock.js";

/** As likely between 0.1 and 1 ms as between 1 and 10 minutes: times spread over orders of magnitude. */
const latencyMs = fc
  .nat(1_000_000)
  .map((n) => 0.1 * 6_000_000 ** (n / 1_000_000))
  .map((ms) => Math.min(ms, 600_000));
const latencies = fc.array(latencyMs, { minLength: 1, maxLength: 300, size: "max" });
const share = fc.nat(1_000).map((n) => n / 1_000);

/** The nearest rank. */
function exact(samples: readonly number[], q: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.max(1, Math.ceil(q * sorted.length)) - 1] ?? Number.NaN;
}

function withSamples(samples: readonly number[]) {
  const latency = new LatencyQuantile({ windowMs: 60_000, minSamples: 1 }, fakeClock());
  for (const ms of samples) latency.record(ms);
  return latency;
}

it("a quantile is within 5 % of the exact one of the same samples", () => {
  fc.assert(
    fc.property(latencies, share, (samples, q) => {
      const exactMs = exact(samples, q);
      const errorMs = Math.abs((withSamples(samples).quantile(q) ?? Number.NaN) - exactMs);
      expect(errorMs / exactMs).toBeLessThanOrEqual(0.05 + 1e-9);
    }),
    { numRuns: 300 },
  );
});

it("a higher quantile is never the lower one, also while samples come in between", () => {
  fc.assert(
    fc.property(latencies, latencies, share, share, (samples, later, one, other) => {
      const latency = withSamples(samples);
      const low = latency.quantile(Math.min(one, other)) ?? Number.NaN;
      // Fewer than would be looked at anew: both readings are of one picture.
      for (const ms of later.slice(0, 63)) latency.record(ms);
      expect(latency.quantile(Math.max(one, other))).toBeGreaterThanOrEqual(low);
    }),
  );
});

it("only samples of the window are known, however they came", () => {
  const step = fc.record({
    passMs: fc.oneof(
      { weight: 6, arbitrary: fc.nat(2_000) },
      { weight: 1, arbitrary: fc.nat(100_000) },
    ),
    ms: latencyMs,
  });
  fc.assert(
    fc.property(
      fc.integer({ min: -1_000_000, max: 1_000_000_000 }),
      fc.integer({ min: 60, max: 60_000 }),
      fc.array(step, { minLength: 1, maxLength: 80, size: "max" }),
      share,
      (startMs, windowMs, steps, q) => {
        const clock = fakeClock(startMs);
        const latency = new LatencyQuantile({ windowMs, minSamples: 3 }, clock);
        const sliceOf = (atMs: number) => Math.floor(atMs / (windowMs / 6));
        const all: { atMs: number; ms: number }[] = [];
        for (const { passMs, ms } of steps) {
          clock.advance(passMs);
          latency.record(ms);
          all.push({ atMs: clock.now(), ms });
          // Far enough for the reading to be of now.
          clock.advance(10);
          const known = all.filter(({ atMs }) => sliceOf(clock.now()) - sliceOf(atMs) < 6);
          expect(latency.count).toBe(known.length);
          const actualMs = latency.quantile(q);
          if (known.length < 3) {
            expect(actualMs).toBeUndefined();
            continue;
          }
          const exactMs = exact(
            known.map((sample) => sample.ms),
            q,
          );
          const errorMs = Math.abs((actualMs ?? Number.NaN) - exactMs);
          expect(errorMs / exactMs).toBeLessThanOrEqual(0.05 + 1e-9);
        }
      },
    ),
  );
});
