import { describe, expect, it } from "vitest";
import { InvalidOptionError, maxDurationMs } from "../../../src/core/options.js";
import { type HedgeOptions, resolveHedgeOptions } from "../../../src/policies/retry/options.js";

describe("the options of hedging", () => {
  it("have defaults and do not change", () => {
    const options = resolveHedgeOptions({ delayMs: 80 });
    expect(options).toEqual({
      maxAttempts: 2,
      delayMs: 80,
      quantile: undefined,
      minDelayMs: 5,
      nonFatalCodes: new Set([14]),
    });
    expect(Object.isFrozen(options)).toBe(true);
  });

  it("take a learned wait in place of a fixed one", () => {
    expect(resolveHedgeOptions({ quantile: 0.95 })).toMatchObject({
      delayMs: undefined,
      quantile: 0.95,
    });
  });

  it("ask for exactly one of the two waits", () => {
    expect(() => resolveHedgeOptions({})).toThrow(
      "hedge.delayMs must be given when quantile is not, got undefined",
    );
    expect(() => resolveHedgeOptions({ delayMs: 0, quantile: 0.95 })).toThrow(
      "hedge.quantile must be absent when delayMs is given, got 0.95",
    );
  });

  it("may send all attempts at once, and may take every code for fatal", () => {
    const options = resolveHedgeOptions({ delayMs: 0, maxAttempts: 5, nonFatalCodes: [] });
    expect(options).toMatchObject({ delayMs: 0, maxAttempts: 5, nonFatalCodes: new Set() });
  });

  it.each([
    { maxAttempts: 2, delayMs: 0, nonFatalCodes: [1, 16] },
    { maxAttempts: 5, quantile: 0.501, minDelayMs: 0, nonFatalCodes: [] },
    { quantile: 0.999, minDelayMs: maxDurationMs, nonFatalCodes: [14] },
  ])("may be as far apart as %j", (options) => {
    const { nonFatalCodes, ...rest } = options;
    const resolved = resolveHedgeOptions(options);
    expect(resolved).toMatchObject(rest);
    expect([...resolved.nonFatalCodes]).toEqual(nonFatalCodes);
  });

  it.each([
    ["orders.hedge.maxAttempts", { delayMs: 1, maxAttempts: 1 }],
    ["orders.hedge.maxAttempts", { delayMs: 1, maxAttempts: 6 }],
    ["orders.hedge.maxAttempts", { delayMs: 1, maxAttempts: 2.5 }],
    ["orders.hedge.delayMs", { delayMs: -1 }],
    ["orders.hedge.delayMs", { delayMs: Number.NaN }],
    ["orders.hedge.delayMs", { delayMs: null }],
    ["orders.hedge.quantile", { quantile: 0.5 }],
    ["orders.hedge.quantile", { quantile: 1 }],
    ["orders.hedge.quantile", { quantile: 95 }],
    ["orders.hedge.quantile", { quantile: "0.9" }],
    ["orders.hedge.minDelayMs", { quantile: 0.9, minDelayMs: -1 }],
    ["orders.hedge.nonFatalCodes", { delayMs: 1, nonFatalCodes: 14 }],
    ["orders.hedge.nonFatalCodes[1]", { delayMs: 1, nonFatalCodes: [14, 0] }],
    ["orders.hedge.nonFatalCodes[0]", { delayMs: 1, nonFatalCodes: [17] }],
    ["orders.hedge.nonFatalCodes[0]", { delayMs: 1, nonFatalCodes: ["UNAVAILABEL"] }],
    ["orders.hedge.delay", { delay: 1 }],
    ["orders.hedge", undefined],
  ])("refuse a senseless %s", (option, options) => {
    const resolve = () => resolveHedgeOptions(options as HedgeOptions, "orders.hedge");
    expect(resolve).toThrow(expect.objectContaining({ name: InvalidOptionError.name, option }));
  });
});
