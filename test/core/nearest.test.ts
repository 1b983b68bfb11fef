import { describe, expect, it } from "vitest";
import { nearest } from "../../src/core/nearest.js";
import { readOptions } from "../../src/core/options.js";

describe("the name that was probably meant", () => {
  const names = ["maxAttempts", "maxBackoffMs", "budget", "idempotent", "mode"];

  it.each([
    ["maxAttemps", "maxAttempts"],
    ["maxattempts", "maxAttempts"],
    ["bugdet", "budget"],
    ["idempotant", "idempotent"],
    ["moed", "mode"],
    ["maxBackof", "maxBackoffMs"],
  ])("is, for %s, %s", (word, meant) => {
    expect(nearest(word, names)).toBe(meant);
  });

  it("is the singular of a plural", () => {
    expect(nearest("retries", ["deadline", "retry"])).toBe("retry");
    expect(nearest("breakers", ["bulkhead", "breaker"])).toBe("breaker");
    expect(nearest("maxEntrieS", ["maxBytes", "maxEntries"])).toBe("maxEntries");
  });

  it.each(["", "x", "attempts", "enabled", "m"])("is none for %j", (word) => {
    expect(nearest(word, names)).toBeUndefined();
  });

  it("stands in the error about an unknown option", () => {
    expect(() => readOptions("retry", { bugdet: 1 }, names)).toThrow(
      "retry.bugdet is not an option; did you mean budget? The options are maxAttempts,",
    );
    expect(() => readOptions("retry", { tries: 1 }, names)).toThrow(
      "retry.tries is not an option; the options are maxAttempts,",
    );
  });
});
