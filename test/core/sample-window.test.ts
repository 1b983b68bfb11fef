import { describe, expect, it } from "vitest";
import {
  RecentMedian,
  SampleWindow,
  type WindowSummary,
} from "../../src/core/stats/sample-window.js";

/** Windows of a second, each filled by calls that end evenly spread; the last one closes it. */
function setup() {
  const window = new SampleWindow(1_000, 2);
  let sinceMs = 5_000;
  window.record(sinceMs, 1, 1, true);
  return (calls: number, tookMs: number, inFlight: number, good = true) => {
    let summary: WindowSummary | undefined;
    for (let call = 1; call <= calls; call += 1) {
      expect(summary).toBeUndefined();
      summary = window.record(sinceMs + (1_000 * call) / calls, tookMs, inFlight, good);
    }
    sinceMs += 1_000;
    // A copy of what the next call changes.
    return summary && { ...summary };
  };
}

it("the first window is left out, for the slow calls of it have not ended yet", () => {
  const second = setup();
  expect(second(10, 20, 4)).toBeUndefined();
  expect(second(10, 20, 4)?.meanMs).toBe(20);
});

it("what a window says is of its own calls alone, whatever the one before was", () => {
  const second = setup();
  second(10, 1_000, 90, false);
  expect(second(10, 400, 50)).toMatchObject({
    samples: 10,
    meanMs: 400,
    meanInFlight: 50,
    maxInFlight: 50,
    goodPerSecond: 10,
  });
  const last = second(20, 20, 4, false);
  expect(last).toMatchObject({
    samples: 20,
    meanMs: 20,
    meanInFlight: 4,
    maxInFlight: 4,
    goodPerSecond: 0,
  });
  expect(last?.p90Ms).toBeGreaterThan(19);
  expect(last?.p90Ms).toBeLessThan(21);
});

it("the most and the mean in flight are of all its calls, whatever their order", () => {
  const window = new SampleWindow(1_000, 2);
  for (const [nowMs, inFlight] of [
    [0, 1],
    [500, 9],
    [1_000, 2],
  ] as const) {
    window.record(nowMs, 10, inFlight, true);
  }
  expect(window).toMatchObject({ meanInFlight: 4, maxInFlight: 9 });
  for (const nowMs of [1_500, 2_000]) window.record(nowMs, 10, 0, true);
  expect(window).toMatchObject({ meanInFlight: 0, maxInFlight: 0 });
});

it("shows the first window to those who look, though it answers with none", () => {
  const window = new SampleWindow(1_000, 2);
  const nothing = { samples: 0, meanMs: 0, p90Ms: 0, goodPerSecond: 0, meanInFlight: 0 };
  expect(window).toMatchObject({ ...nothing, maxInFlight: 0 });
  for (const nowMs of [0, 250, 500, 750, 1_000]) window.record(nowMs, 40, 3, true);
  expect(window).toMatchObject({ samples: 5, meanMs: 40, goodPerSecond: 5, meanInFlight: 3 });
  expect(window.maxInFlight).toBe(3);
});

it.each([
  [[9, 1], 20],
  [[8, 2], 300],
  [[18, 2], 20],
  [[17, 3], 300],
  [[13, 2], 300],
])("nine in ten calls do not exceed the p90, within 5 %: %j fast and slow ones", (counts, p90) => {
  const [fast = 0, slow = 0] = counts;
  const window = new SampleWindow(1_000, 2);
  window.record(0, 1, 1, true);
  window.record(1_000, 1, 1, true);
  for (let call = 1; call <= fast; call += 1) window.record(1_001, 20, 1, true);
  for (let call = 1; call <= slow; call += 1)
    window.record(1_001 + (call / slow) * 1_000, 300, 1, true);
  expect(window.samples).toBe(fast + slow);
  expect(window.p90Ms).toBeGreaterThan(0.95 * p90);
  expect(window.p90Ms).toBeLessThan(1.05 * p90);
});

it.each([
  [0, 0.05, 0.055],
  [0.05, 0.05, 0.055],
  [1, 0.95, 1.05],
  [1_200_000, 1_140_000, 1_260_000],
  [1_400_000, 1_330_000, 1_470_000],
  [1e12, 1e6, 2e6],
])("the p90 of calls that take %d ms lies between %d and %d", (tookMs, above, below) => {
  const window = new SampleWindow(1_000, 2);
  for (const nowMs of [0, 500, 1_000]) window.record(nowMs, tookMs, 1, true);
  expect(window.p90Ms).toBeGreaterThan(above);
  expect(window.p90Ms).toBeLessThan(below);
});

it("a window goes on until it has enough calls, and its rate is that of the time it took", () => {
  const window = new SampleWindow(1_000, 3);
  for (const nowMs of [0, 500, 1_000]) window.record(nowMs, 10, 1, true);
  expect(window.record(2_000, 10, 1, true)).toBeUndefined();
  expect(window.record(4_000, 10, 1, true)).toBeUndefined();
  expect(window.record(5_000, 10, 1, true)).toMatchObject({ samples: 3, goodPerSecond: 0.75 });
});

describe("the median of the last values", () => {
  const medianOf = (values: readonly number[], minValues = 1) => {
    const recent = new RecentMedian(5);
    for (const value of values) recent.add(value);
    return recent.median(minValues);
  };

  it.each([
    [[7], 7],
    [[9, 1, 5], 5],
    [[1, 9], 9],
    [[5, 4, 3, 2, 1], 3],
    [[100, 100, 100, 5, 4, 3, 2, 1], 3],
  ])("of %j is %d", (values, median) => {
    expect(medianOf(values)).toBe(median);
  });

  it("is unknown while there are fewer than asked for", () => {
    expect(medianOf([1, 2], 3)).toBeUndefined();
    expect(medianOf([1, 2, 3], 3)).toBe(2);
  });
});
