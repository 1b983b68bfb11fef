import { expect, it } from "vitest";
import { differenceText, disagree, mean } from "../../lab/reality/agreement.js";

it("the lab may differ by 15 % of what was measured, and by one call in a hundred", () => {
  expect(disagree("good", 0.57, 0.5)).toBe(false);
  expect(disagree("good", 0.58, 0.5)).toBe(true);
  expect(disagree("good", 0.42, 0.5)).toBe(true);
  expect(disagree("refused", 0.01, 0)).toBe(false);
  expect(disagree("refused", 0.011, 0)).toBe(true);
});

it("requests for each call have no such room below", () => {
  expect(disagree("amplification", 1.14, 1)).toBe(false);
  expect(disagree("amplification", 1.16, 1)).toBe(true);
  expect(disagree("amplification", 0.01, 0)).toBe(true);
});

it("a difference says whether the lab is above or below", () => {
  expect(differenceText(0.55, 0.5)).toBe("+10 %");
  expect(differenceText(0.45, 0.5)).toBe("-10 %");
  expect(differenceText(0, 0)).toBe("0 %");
  expect(differenceText(0.1, 0)).toBe("");
  expect(mean([1, 2, 6])).toBe(3);
});
