import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import {
  countWindow,
  type OutcomeWindow,
  timeWindow,
} from "../../../src/core/stats/outcome-window.js";

const none = { calls: 0, failures: 0, slow: 0 };
const seen = (window: OutcomeWindow, nowMs: number) => ({ ...window.totals(nowMs) });

describe("a window by time", () => {
  const tenSeconds = () => timeWindow({ spanMs: 10_000, buckets: 10 });

  it("holds nothing at first, wherever its time starts", () => {
    for (const startMs of [0, -5_000, 123_456.789, 2 ** 50]) {
      expect(seen(tenSeconds(), startMs)).toEqual(none);
    }
  });

  it("counts calls, and among them the failed and the slow ones", () => {
    const window = tenSeconds();
    window.record(0, false, false);
    window.record(10, true, false);
    window.record(20, false, true);
    window.record(30, true, true);
    expect(seen(window, 40)).toEqual({ calls: 4, failures: 2, slow: 2 });
  });

  it("keeps a call for its span less one slice, and not longer than its span", () => {
    const window = tenSeconds();
    window.record(500, true, true);
    expect(seen(window, 9_999).calls).toBe(1);
    expect(seen(window, 10_000)).toEqual(none);
  });

  it("forgets slice by slice, the oldest first", () => {
    const window = tenSeconds();
    for (let second = 0; second < 10; second += 1) window.record(second * 1_000, true, false);
    expect(seen(window, 9_999).calls).toBe(10);
    expect(seen(window, 10_000).calls).toBe(9);
    expect(seen(window, 12_500).calls).toBe(7);
    expect(seen(window, 18_999).calls).toBe(1);
    expect(seen(window, 19_000).calls).toBe(0);
  });

  it("stays right lap after lap", () => {
    const window = tenSeconds();
    for (let second = 0; second < 100; second += 1) {
      window.record(second * 1_000, second % 2 === 0, false);
    }
    expect(seen(window, 99_999)).toEqual({ calls: 10, failures: 5, slow: 0 });
  });

  it.each([10_000, 10_001, 99_999, 1e9, 1e15])(
    "forgets all after %d ms of silence",
    (silenceMs) => {
      const window = tenSeconds();
      for (let second = 0; second < 10; second += 1) window.record(second * 1_000, true, true);
      const laterMs = 9_000 + silenceMs;
      window.record(laterMs, false, false);
      expect(seen(window, laterMs)).toEqual({ calls: 1, failures: 0, slow: 0 });
    },
  );

  it("counts a call of a time gone by as one of now", () => {
    const window = tenSeconds();
    window.record(50_000, false, false);
    window.record(20_000, true, false);
    expect(seen(window, 50_000)).toEqual({ calls: 2, failures: 1, slow: 0 });
    expect(seen(window, 60_000)).toEqual(none);
  });

  it("starts afresh when cleared", () => {
    const window = tenSeconds();
    window.record(0, true, true);
    window.record(3_000, true, true);
    window.clear();
    expect(seen(window, 3_000)).toEqual(none);
    window.record(3_000, true, false);
    // Were a slice still to hold a call, its turn to be forgotten would make the totals negative.
    expect(seen(window, 12_500)).toEqual({ calls: 1, failures: 1, slow: 0 });
  });

  it("may be a single slice", () => {
    const window = timeWindow({ spanMs: 100, buckets: 1 });
    window.record(110, true, false);
    expect(seen(window, 199).calls).toBe(1);
    expect(seen(window, 200).calls).toBe(0);
  });
});

describe("a window by count", () => {
  it("holds the last calls, however old", () => {
    const window = countWindow({ size: 3 });
    window.record(0, true, true);
    window.record(1, true, false);
    window.record(2, false, true);
    expect(seen(window, 1e12)).toEqual({ calls: 3, failures: 2, slow: 2 });
    window.record(3, false, false);
    expect(seen(window, 3)).toEqual({ calls: 3, failures: 1, slow: 1 });
    window.record(4, false, false);
    expect(seen(window, 4)).toEqual({ calls: 3, failures: 0, slow: 1 });
  });

  it("starts afresh when cleared", () => {
    const window = countWindow({ size: 2 });
    for (let call = 0; call < 3; call += 1) window.record(call, true, true);
    window.clear();
    expect(seen(window, 3)).toEqual(none);
    window.record(4, false, false);
    window.record(5, false, false);
    expect(seen(window, 5)).toEqual({ calls: 2, failures: 0, slow: 0 });
  });
});

describe("a window that takes over what another held", () => {
  it("holds it as calls of now, and nothing else", () => {
    for (const window of [timeWindow({ spanMs: 100, buckets: 10 }), countWindow({ size: 20 })]) {
      window.record(0, true, true);
      window.refill(50, { calls: 10, failures: 4, slow: 3 });
      expect(seen(window, 50)).toEqual({ calls: 10, failures: 4, slow: 3 });
    }
    const window = timeWindow({ spanMs: 100, buckets: 10 });
    window.refill(50, { calls: 10, failures: 4, slow: 3 });
    expect(seen(window, 149).calls).toBe(10);
    expect(seen(window, 150)).toEqual(none);
  });

  it("keeps the shares of more calls than it has room for, and the failures longest", () => {
    const window = countWindow({ size: 10 });
    window.refill(0, { calls: 1_000, failures: 300, slow: 100 });
    expect(seen(window, 0)).toEqual({ calls: 10, failures: 3, slow: 1 });
    for (let call = 0; call < 7; call += 1) window.record(1, false, false);
    expect(seen(window, 1)).toEqual({ calls: 10, failures: 3, slow: 1 });
    window.refill(2, none);
    expect(seen(window, 2)).toEqual(none);
  });
});

it("a window by time takes over as many calls as it can count", () => {
  const window = timeWindow({ spanMs: 100, buckets: 1 });
  window.refill(0, { calls: 2 ** 40, failures: 2 ** 39, slow: 2 ** 38 });
  expect(seen(window, 0)).toEqual({ calls: 2 ** 31, failures: 2 ** 30, slow: 2 ** 29 });
});

it("a window tells its totals in one object that stays current", () => {
  for (const window of [timeWindow({ spanMs: 10, buckets: 2 }), countWindow({ size: 2 })]) {
    const totals = window.totals(0);
    window.record(0, true, false);
    expect(window.totals(0)).toBe(totals);
    expect(totals.failures).toBe(1);
  }
});

it.each([
  ["window.spanMs", () => timeWindow({ spanMs: 0, buckets: 1 })],
  ["window.spanMs", () => timeWindow({ spanMs: Number.NaN, buckets: 1 })],
  ["window.buckets", () => timeWindow({ spanMs: 10, buckets: 0 })],
  ["window.spanMs", () => timeWindow({ spanMs: 0.9, buckets: 1 })],
  ["window.buckets", () => timeWindow({ spanMs: 10, buckets: 1.5 })],
  ["window.buckets", () => timeWindow({ spanMs: 10, buckets: 1_001 })],
  ["window.size", () => countWindow({ size: 0 })],
  ["window.size", () => countWindow({ size: 1_000_001 })],
])("a window refuses a senseless %s", (option, build) => {
  expect(build).toThrow(InvalidOptionError);
  expect(build).toThrow(option);
});

it("a window may be as large and as small as its documentation says", () => {
  const bounds = [
    timeWindow({ spanMs: 1, buckets: 1 }),
    timeWindow({ spanMs: 1, buckets: 1_000 }),
    countWindow({ size: 1 }),
    countWindow({ size: 1_000_000 }),
  ];
  for (const window of bounds) {
    window.record(0, true, false);
    expect(seen(window, 0)).toEqual({ calls: 1, failures: 1, slow: 0 });
  }
});
