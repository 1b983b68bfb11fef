import { describe, expect, it } from "vitest";
import {
  formatClock,
  formatCount,
  formatMs,
  formatRate,
  formatShare,
  plural,
} from "../../viewer-page/src/format.js";

describe("a duration", () => {
  it.each([
    [0, "0 ms"],
    [0.0004, "0 ms"],
    [0.35, "350 µs"],
    [0.9996, "1 ms"],
    [3.44, "3.4 ms"],
    [9.99, "10 ms"],
    [82.4, "82 ms"],
    [999.4, "999 ms"],
    [999.6, "1 s"],
    [1_240, "1.24 s"],
    [59_990, "1 min"],
    [125_000, "2 min 5 s"],
    [3_600_000, "60 min"],
    [-3, "−3 ms"],
    [Number.NaN, "–"],
  ])("of %d ms is %s", (ms, text) => {
    expect(formatMs(ms)).toBe(text);
  });
});

it.each([
  [0, "0"],
  [999, "999"],
  [1_234_567, "1\u202f234\u202f567"],
])("%d is counted as %s", (count, text) => {
  expect(formatCount(count)).toBe(text);
});

it.each([
  [0.24, "0.2"],
  [9.96, "10"],
  [1_000.4, "1\u202f000"],
])("a rate of %d is %s", (rate, text) => {
  expect(formatRate(rate)).toBe(text);
});

it.each([
  [0, "0 %"],
  [0.001, "< 1 %"],
  [0.824, "82 %"],
  [0.9999, "99.9 %"],
  [1, "100 %"],
  [Number.NaN, "–"],
])("a share of %d is %s", (share, text) => {
  expect(formatShare(share)).toBe(text);
});

it("a time of day has milliseconds and no date", () => {
  expect(formatClock(new Date(2026, 0, 2, 3, 4, 5, 6).getTime())).toBe("03:04:05.006");
});

it("one thing is not many", () => {
  expect([plural(0, "call"), plural(1, "call"), plural(2, "call")]).toEqual([
    "0 calls",
    "1 call",
    "2 calls",
  ]);
});
