import { describe, expect, it } from "vitest";
import { InvalidOptionError, maxDurationMs } from "../../../src/core/options.js";
import {
  Feasibility,
  type FeasibilityOptions,
  resolveFeasibilityOptions,
} from "../../../src/policies/deadline/feasibility.js";
import { fakeClock } from "../../core/fake-clock.js";

function feasibility(options: FeasibilityOptions = {}, random = () => 0.5) {
  const clock = fakeClock();
  const made = new Feasibility(resolveFeasibilityOptions(options), clock, random);
  return {
    clock,
    feasibility: made,
    learn: (method: string, tookMs: number, times: number): void => {
      for (let time = 0; time < times; time += 1) made.record(method, tookMs);
    },
  };
}

describe("what is known of handlers", () => {
  it("is nothing before a hundred of a method have ended", () => {
    const { feasibility: known, learn } = feasibility();
    learn("/a/B", 80, 99);
    expect(known.neededMs("/a/B")).toBe(0);
    learn("/a/B", 80, 1);
    // Half of the median, which is known within 5 %.
    expect(known.neededMs("/a/B")).toBeGreaterThan(37);
    expect(known.neededMs("/a/B")).toBeLessThan(43);
    expect(known.neededMs("/a/C")).toBe(0);
    expect(Object.keys(known.snapshot())).toEqual(["/a/B"]);
  });

  it("is told in hundredths of a millisecond", () => {
    const { feasibility: known, learn } = feasibility({ minCalls: 1 });
    learn("/a/B", 81.2345, 1);
    const neededMs = known.neededMs("/a/B");
    const told = known.snapshot()["/a/B"] ?? 0;
    expect(Math.abs(told - neededMs)).toBeLessThanOrEqual(0.005);
    expect(told).toBe(Number(told.toFixed(2)));
  });

  it("can be looked at for many methods, and looking does not change which are remembered", () => {
    const { feasibility: known, learn } = feasibility({ minCalls: 1 });
    for (let method = 0; method < 1_000; method += 1) learn(`/a/M${method}`, 80, 1);
    expect(Object.keys(known.snapshot())).toHaveLength(1_000);
    learn("/a/New", 80, 1);
    const methods = Object.keys(known.snapshot());
    expect(methods).toHaveLength(1_000);
    expect(methods).toContain("/a/M999");
    expect(methods).not.toContain("/a/M0");
  });

  it("is forgotten after its window, so that a slow hour says nothing of the next", () => {
    const { feasibility: known, clock, learn } = feasibility({ windowMs: 60_000 });
    learn("/a/B", 5_000, 500);
    expect(known.neededMs("/a/B")).toBeGreaterThan(2_000);
    clock.advance(60_000);
    expect(known.neededMs("/a/B")).toBe(0);
  });

  it("may be kept for as little as a second", () => {
    expect(resolveFeasibilityOptions({ windowMs: 1_000 }).windowMs).toBe(1_000);
    expect(() => resolveFeasibilityOptions({ windowMs: 999 })).toThrow(InvalidOptionError);
  });

  it("lets the share of hopeless calls pass that it is told to", () => {
    const draws = [0.005, 0.02, 0.009, 0.5];
    const { feasibility: known } = feasibility({}, () => draws.shift() ?? 1);
    expect([1, 2, 3, 4].map(() => known.passes())).toEqual([true, false, true, false]);
  });
});

describe("feasibility options", () => {
  it("have the defaults that are documented", () => {
    expect(resolveFeasibilityOptions()).toEqual({
      quantile: 0.5,
      share: 0.5,
      windowMs: 60_000,
      minCalls: 100,
      passShare: 0.01,
    });
  });

  it.each([
    { quantile: 0, share: 0.01, windowMs: 1_000, minCalls: 1, passShare: 0 },
    { quantile: 1, share: 10, windowMs: maxDurationMs, minCalls: 1_000_000, passShare: 1 },
  ])("may be as far apart as %j", (options) => {
    expect(resolveFeasibilityOptions(options)).toEqual(options);
  });

  it.each([
    ["learned.quantile", { quantile: 1.1 }],
    ["learned.quantile", { quantile: -0.1 }],
    ["learned.share", { share: 0 }],
    ["learned.share", { share: 10.1 }],
    ["learned.windowMs", { windowMs: 10 }],
    ["learned.minCalls", { minCalls: 0 }],
    ["learned.passShare", { passShare: 1.1 }],
    ["learned.passShare", { passShare: -0.1 }],
    ["learned.median", { median: 1 }],
  ])("refuse nonsense and name %s", (option, options) => {
    const build = () => resolveFeasibilityOptions(options as FeasibilityOptions);
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(expect.objectContaining({ option }));
  });
});
