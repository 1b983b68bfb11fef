import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import {
  LatencyQuantile,
  type LatencyQuantileOptions,
} from "../../../src/core/stats/latency-quantile.js";
import { fakeClock } from "../fake-clock.js";

function setup(options: Partial<LatencyQuantileOptions> = {}) {
  // At the start of a slice of any window used here.
  const clock = fakeClock(6_000_000);
  const latency = new LatencyQuantile({ windowMs: 60_000, minSamples: 1, ...options }, clock);
  return {
    clock,
    latency,
    record: (ms: number, times = 1) => {
      for (let done = 0; done < times; done += 1) latency.record(ms);
    },
  };
}

/** A quantile is what it should be, within 5 %. */
function expectNear(actual: number | undefined, ms: number): void {
  expect(Math.abs((actual ?? Number.NaN) - ms)).toBeLessThanOrEqual(ms * 0.05 * (1 + 1e-9));
}

describe("a learned latency quantile", () => {
  it("is unknown until there are enough samples", () => {
    const { latency, record } = setup({ minSamples: 100 });
    record(20, 99);
    expect(latency.quantile(0.95)).toBeUndefined();
    record(20);
    expectNear(latency.quantile(0.95), 20);
  });

  it("asks for 100 samples unless told otherwise", () => {
    const clock = fakeClock();
    const latency = new LatencyQuantile({ windowMs: 60_000 }, clock);
    for (let n = 0; n < 99; n += 1) latency.record(20);
    expect(latency.quantile(0.5)).toBeUndefined();
    latency.record(20);
    expectNear(latency.quantile(0.5), 20);
  });

  it("is the time that this share of the samples did not exceed", () => {
    const { latency, record } = setup();
    record(10, 95);
    record(1_000, 5);
    expectNear(latency.quantile(0), 10);
    expectNear(latency.quantile(0.95), 10);
    expectNear(latency.quantile(0.96), 1_000);
    expectNear(latency.quantile(1), 1_000);
  });

  it("counts times below a tenth of a millisecond and above ten minutes as those", () => {
    const { latency, record } = setup();
    record(0);
    record(0.000_1);
    expect(latency.count).toBe(2);
    expect(latency.quantile(1)).toBe(0.1);
    const long = setup();
    long.record(10, 2);
    long.record(600_001);
    long.record(Number.POSITIVE_INFINITY, 2);
    expectNear(long.latency.quantile(0.4), 10);
    expectNear(long.latency.quantile(0.5), 600_000);
    expectNear(long.latency.quantile(1), 600_000);
  });

  it.each([Number.NaN, -1])("leaves out %d, which is no time", (ms) => {
    const { latency, record } = setup();
    record(ms);
    expect(latency.count).toBe(0);
    expect(latency.quantile(0.5)).toBeUndefined();
  });

  it("keeps a sample for five sixths of the window and forgets it with the window", () => {
    const { clock, latency, record } = setup();
    record(500, 10);
    clock.advance(50_000);
    record(5);
    expect(latency.count).toBe(11);
    expectNear(latency.quantile(0.5), 500);
    clock.advance(10_000);
    expect(latency.count).toBe(1);
    expectNear(latency.quantile(0.5), 5);
  });

  it.each([60_000, 61_234, 1e9, 1e14])("knows nothing after %i ms of silence", (silenceMs) => {
    const { clock, latency, record } = setup();
    record(20, 200);
    latency.quantile(0.5);
    clock.advance(silenceMs);
    expect(latency.quantile(0.5)).toBeUndefined();
    expect(latency.count).toBe(0);
    record(7);
    expectNear(latency.quantile(0.5), 7);
  });

  it("sees new samples after 10 ms, or after 64 of them", () => {
    const { clock, latency, record } = setup();
    record(10);
    expectNear(latency.quantile(1), 10);
    record(100);
    clock.advance(9);
    expectNear(latency.quantile(1), 10);
    clock.advance(1);
    expectNear(latency.quantile(1), 100);
    record(1_000, 63);
    expectNear(latency.quantile(1), 100);
    record(1_000);
    expectNear(latency.quantile(1), 1_000);
  });

  it("does not wait to forget: what has left the window is in no quantile", () => {
    const { clock, latency, record } = setup();
    record(1_000);
    clock.advance(50_000);
    record(10);
    clock.advance(9_999);
    expectNear(latency.quantile(1), 1_000);
    clock.advance(1);
    expectNear(latency.quantile(1), 10);
  });

  it("takes a clock that goes backwards for one that stands", () => {
    const { clock, latency, record } = setup();
    record(10, 3);
    clock.advance(-600_000);
    record(10, 3);
    expect(latency.count).toBe(6);
    clock.advance(600_000);
    expect(latency.count).toBe(6);
  });

  it("may look back for a single millisecond", () => {
    const { clock, latency, record } = setup({ windowMs: 1 });
    record(20);
    expect(latency.count).toBe(1);
    clock.advance(1);
    expect(latency.count).toBe(0);
  });

  it.each([
    ["quantile.windowMs", { windowMs: 0 }],
    ["quantile.windowMs", { windowMs: Number.NaN }],
    ["quantile.minSamples", { minSamples: 0 }],
    ["quantile.minSamples", { minSamples: 1.5 }],
  ])("refuses a senseless %s", (option, options) => {
    expect(() => setup(options)).toThrow(
      expect.objectContaining({ name: InvalidOptionError.name, option }),
    );
  });
});
