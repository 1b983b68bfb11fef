import { describe, expect, it } from "vitest";
import { pauseMs } from "../../src/core/pause.js";

describe("the pause before one is asked again that keeps saying now", () => {
  it.each([
    [0, 0],
    [1, 10],
    [2, 20],
    [3, 40],
    [4, 80],
    [5, 160],
    [6, 250],
    [1_000_000, 250],
  ])("after %d such answers is %d ms at most, and half of that at least", (times, mostMs) => {
    expect(pauseMs(times, () => 0)).toBe(mostMs);
    expect(pauseMs(times, () => 0.5)).toBe(0.75 * mostMs);
    expect(pauseMs(times, () => 1)).toBe(mostMs / 2);
  });
});
