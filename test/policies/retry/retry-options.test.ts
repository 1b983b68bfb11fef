import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import { resolveRetryBudgetOptions } from "../../../src/policies/retry/budget.js";
import { type RetryOptions, resolveRetryOptions } from "../../../src/policies/retry/options.js";

describe("the options of retries", () => {
  it("have the defaults that are documented, and do not change", () => {
    const options = resolveRetryOptions();
    expect(options).toEqual({
      maxAttempts: 3,
      codes: new Set([14]),
      backoff: expect.any(Function),
      idempotent: undefined,
      maxDepth: 1,
      budget: resolveRetryBudgetOptions(),
      maxBufferBytes: 1_048_576,
      maxBufferMessages: 1_000,
    });
    expect(options.backoff(2, 0, () => 0.5)).toBe(100);
    expect(Object.isFrozen(options)).toBe(true);
  });

  it("may have no budget, and any codes but OK", () => {
    const options = resolveRetryOptions({ budget: false, codes: [1, 16] });
    expect(options).toMatchObject({ budget: undefined, codes: new Set([1, 16]) });
  });

  it.each([
    ["orders.retry.maxAttempts", { maxAttempts: 0 }],
    ["orders.retry.idempotent", { idempotent: "yes" }],
    ["orders.retry.idempotent", { idempotent: null }],
    ["orders.retry.codes", { codes: 14 }],
    ["orders.retry.codes[1]", { codes: [14, 0] }],
    ["orders.retry.codes[0]", { codes: [17] }],
    ["orders.retry.backoff.baseMs", { backoff: { baseMs: -1 } }],
    ["orders.retry.budget.ratio", { budget: { ratio: 2 } }],
    ["orders.retry.attempts", { attempts: 3 }],
  ])("refuse a senseless %s", (option, options) => {
    const resolve = () => resolveRetryOptions(options as RetryOptions, "orders.retry");
    expect(resolve).toThrow(expect.objectContaining({ name: InvalidOptionError.name, option }));
  });
});
