import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import {
  type RetryBudgetOptions,
  resolveRetryBudgetOptions,
} from "../../../src/policies/retry/budget.js";

describe("the options of a retry budget", () => {
  it("have defaults and do not change", () => {
    const options = resolveRetryBudgetOptions();
    expect(options).toEqual({
      ratio: 0.2,
      minPerSecond: 3,
      windowMs: 10_000,
      maxMilliTokens: 100_000,
      milliTokenRatio: 100,
    });
    expect(Object.isFrozen(options)).toBe(true);
  });

  it("may switch off one budget, but not both", () => {
    expect(resolveRetryBudgetOptions({ ratio: false }).ratio).toBe(false);
    expect(resolveRetryBudgetOptions({ maxTokens: false }).maxMilliTokens).toBe(false);
    expect(() => resolveRetryBudgetOptions({ ratio: false, maxTokens: false })).toThrow(
      "retry.budget.ratio must be a number above 0 and up to 1 when maxTokens is off too, got false",
    );
  });

  it.each([
    [0.5466, 546],
    [0.9999999999999, 999],
    [0.57, 570],
    [1.001, 1_001],
    [1_000, 1_000_000],
  ])("cut a token ratio of %d after the third decimal", (tokenRatio, milliTokens) => {
    expect(resolveRetryBudgetOptions({ tokenRatio }).milliTokenRatio).toBe(milliTokens);
  });

  it("keep every thousandth of a token, whatever decimals follow it", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 999_999 }), fc.nat(999_999), (milli, beyond) => {
        const written = `${(milli / 1_000).toFixed(3)}${String(beyond).padStart(6, "0")}`;
        const { maxMilliTokens, milliTokenRatio } = resolveRetryBudgetOptions({
          maxTokens: Number(written),
          tokenRatio: Number(written),
        });
        expect([maxMilliTokens, milliTokenRatio]).toEqual([milli, milli]);
      }),
    );
  });

  it.each([
    ["orders.budget.ratio", { ratio: 0 }],
    ["orders.budget.ratio", { ratio: 20 }],
    ["orders.budget.ratio", { ratio: true }],
    ["orders.budget.minPerSecond", { minPerSecond: -1 }],
    ["orders.budget.minPerSecond", { minPerSecond: Number.NaN }],
    ["orders.budget.windowMs", { windowMs: 999 }],
    ["orders.budget.windowMs", { windowMs: Number.POSITIVE_INFINITY }],
    ["orders.budget.maxTokens", { maxTokens: 0 }],
    ["orders.budget.maxTokens", { maxTokens: 1_001 }],
    ["orders.budget.maxTokens", { maxTokens: true }],
    ["orders.budget.tokenRatio", { tokenRatio: 0.0009 }],
    ["orders.budget.tokenRatio", { tokenRatio: null }],
    ["orders.budget.tokenRatio", { tokenRatio: "0.1" }],
    ["orders.budget.tokensRatio", { tokensRatio: 0.1 }],
    ["orders.budget", 0.2],
  ])("refuse a senseless %s", (option, options) => {
    const resolve = () => resolveRetryBudgetOptions(options as RetryBudgetOptions, "orders.budget");
    expect(resolve).toThrow(expect.objectContaining({ name: InvalidOptionError.name, option }));
  });
});
