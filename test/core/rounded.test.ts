import { expect, it } from "vitest";
import { inMs, rounded } from "../../src/core/rounded.js";

it("a time in an attribute has three decimals at most", () => {
  expect([82.341_999_99, 0.000_4, 50, 1e9 + 0.5].map(rounded)).toEqual([82.342, 0, 50, 1e9 + 0.5]);
});

it("a time in a sentence has one decimal below ten milliseconds, and none above", () => {
  expect([82.34, 9.96, 3.44, 0.04, 0, 1234.5].map(inMs)).toEqual([
    "82 ms",
    "10 ms",
    "3.4 ms",
    "0 ms",
    "0 ms",
    "1235 ms",
  ]);
});
