import { describe, expect, it } from "vitest";
import { type BreakerOptions, resolveBreakerOptions } from "../../src/core/breaker-options.js";
import { InvalidOptionError } from "../../src/core/options.js";

describe("the options of a breaker", () => {
  it("have defaults and do not change", () => {
    const options = resolveBreakerOptions();
    expect(options).toEqual({
      consecutiveFailures: 5,
      failureRate: 0.5,
      minCalls: 20,
      windowMs: 10_000,
      openMs: 5_000,
      probes: 3,
      probeLeaseMs: 10_000,
    });
    expect(Object.isFrozen(options)).toBe(true);
  });

  it("may switch off one rule, but not both", () => {
    expect(resolveBreakerOptions({ failureRate: false }).failureRate).toBe(false);
    expect(resolveBreakerOptions({ consecutiveFailures: false }).consecutiveFailures).toBe(false);
    expect(() => resolveBreakerOptions({ failureRate: false, consecutiveFailures: false })).toThrow(
      "breaker.failureRate must be a number above 0 and up to 1 when consecutiveFailures is off",
    );
  });

  it.each([
    ["orders.breaker.consecutiveFailures", { consecutiveFailures: 0 }],
    ["orders.breaker.consecutiveFailures", { consecutiveFailures: true }],
    ["orders.breaker.failureRate", { failureRate: 0 }],
    ["orders.breaker.failureRate", { failureRate: 50 }],
    ["orders.breaker.minCalls", { minCalls: 0 }],
    ["orders.breaker.windowMs", { windowMs: 0 }],
    ["orders.breaker.openMs", { openMs: 0 }],
    ["orders.breaker.openMs", { openMs: null }],
    ["orders.breaker.probes", { probes: 0 }],
    ["orders.breaker.probes", { probes: 1_001 }],
    ["orders.breaker.probeLeaseMs", { probeLeaseMs: 0 }],
    ["orders.breaker.openMS", { openMS: 5_000 }],
    ["orders.breaker", []],
  ])("refuse a senseless %s", (option, options) => {
    const resolve = () => resolveBreakerOptions(options as BreakerOptions, "orders.breaker");
    expect(resolve).toThrow(expect.objectContaining({ name: InvalidOptionError.name, option }));
  });
});
