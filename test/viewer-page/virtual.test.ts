import { expect, it } from "vitest";
import { scrolledTo, visibleRows } from "../../viewer-page/src/virtual.js";

it("only the rows in sight are drawn, and a few around them", () => {
  expect(visibleRows(10_000, 20, 0, 400)).toEqual({ first: 0, end: 28 });
  expect(visibleRows(10_000, 20, 100_000, 400)).toEqual({ first: 4_992, end: 5_028 });
});

it("a list that became shorter than its scroll position shows its end", () => {
  expect(visibleRows(3, 20, 100_000, 400)).toEqual({ first: 2, end: 3 });
  expect(visibleRows(0, 20, 100_000, 400)).toEqual({ first: 0, end: 0 });
});

it("a list scrolls no further than it must to show a row", () => {
  expect(scrolledTo(5, 20, 60, 100)).toBe(60);
  expect(scrolledTo(2, 20, 60, 100)).toBe(40);
  expect(scrolledTo(9, 20, 60, 100)).toBe(100);
});
