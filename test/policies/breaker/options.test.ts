import { describe, expect, it } from "vitest";
import { InvalidOptionError, maxDurationMs } from "../../../src/core/options.js";
import {
  type BreakerOptions,
  resolveBreakerOptions,
} from "../../../src/policies/breaker/options.js";

describe("the options of a breaker", () => {
  it("have defaults and do not change", () => {
    const options = resolveBreakerOptions();
    expect(options).toEqual({
      consecutiveFailures: 5,
      failureRate: 0.5,
      minCalls: 20,
      slowMs: false,
      slowRate: 0.8,
      windowMs: 10_000,
      windowCalls: false,
      inFlightMs: false,
      openMs: 250,
      openFactor: 1.2,
      maxOpenMs: 750,
      openJitter: 0.2,
      probes: 3,
      successesToClose: 3,
      probeLeaseMs: 10_000,
      rampMs: 250,
    });
    expect(Object.isFrozen(options)).toBe(true);
  });

  it("follow each other where one is left out", () => {
    expect(resolveBreakerOptions({ openMs: 200 })).toMatchObject({ maxOpenMs: 600, rampMs: 200 });
    expect(resolveBreakerOptions({ openMs: maxDurationMs }).maxOpenMs).toBe(maxDurationMs);
    expect(resolveBreakerOptions({ probes: 7 }).successesToClose).toBe(7);
    expect(resolveBreakerOptions({ windowCalls: 10 }).minCalls).toBe(10);
    expect(resolveBreakerOptions({ windowCalls: 100 }).minCalls).toBe(20);
  });

  it.each<[keyof BreakerOptions, number, number]>([
    ["failureRate", 0.001, 1],
    ["windowMs", 1, maxDurationMs],
    ["windowCalls", 1, 10_000],
    ["inFlightMs", 1, maxDurationMs],
    ["openMs", 1, maxDurationMs],
    ["openFactor", 1, 10],
    ["openJitter", 0, 0.9],
    ["probes", 1, 1_000],
    ["successesToClose", 1, 1_000],
    ["probeLeaseMs", 1, maxDurationMs],
    ["rampMs", 1, maxDurationMs],
  ])("take %s from %d to %d", (option, least, most) => {
    const resolved = [least, most].map(
      (value) => resolveBreakerOptions({ [option]: value })[option],
    );
    expect(resolved).toEqual([least, most]);
    const below = option === "openJitter" ? -0.1 : 0;
    for (const value of [below, most * 1.1 + 1]) {
      const build = () => resolveBreakerOptions({ [option]: value });
      expect(build).toThrow(`breaker.${option} must be`);
    }
  });

  it.each(["consecutiveFailures", "minCalls"] as const)("take %s from 1 on", (option) => {
    const resolved = [1, 1e9].map((value) => resolveBreakerOptions({ [option]: value })[option]);
    expect(resolved).toEqual([1, 1e9]);
    expect(() => resolveBreakerOptions({ [option]: 0 })).toThrow(`breaker.${option} must be`);
  });

  it("may switch rules off, but not all", () => {
    const none = { consecutiveFailures: false, failureRate: false } as const;
    expect(resolveBreakerOptions({ ...none, slowMs: 100 }).slowMs).toBe(100);
    expect(resolveBreakerOptions({ rampMs: false }).rampMs).toBe(false);
    expect(resolveBreakerOptions({ failureRate: false }).failureRate).toBe(false);
    expect(resolveBreakerOptions({ consecutiveFailures: false }).consecutiveFailures).toBe(false);
    expect(() => resolveBreakerOptions({ failureRate: false, consecutiveFailures: false })).toThrow(
      "breaker.failureRate must be a number above 0 and up to 1 when consecutiveFailures and slowMs are off",
    );
  });

  it.each([
    ["orders.breaker.consecutiveFailures", { consecutiveFailures: 0 }],
    ["orders.breaker.consecutiveFailures", { consecutiveFailures: true }],
    ["orders.breaker.failureRate", { failureRate: 0 }],
    ["orders.breaker.failureRate", { failureRate: 50 }],
    ["orders.breaker.slowMs", { slowMs: 0 }],
    ["orders.breaker.slowRate", { slowMs: 100, slowRate: 80 }],
    ["orders.breaker.slowRate", { slowRate: 0.8 }],
    ["orders.breaker.minCalls", { minCalls: 0 }],
    ["orders.breaker.minCalls", { minCalls: 11, windowCalls: 10 }],
    ["orders.breaker.windowCalls", { windowCalls: 0 }],
    ["orders.breaker.windowCalls", { windowCalls: 10_001 }],
    ["orders.breaker.inFlightMs", { inFlightMs: 0 }],
    ["orders.breaker.openFactor", { openFactor: 0.9 }],
    ["orders.breaker.maxOpenMs", { openMs: 1_000, maxOpenMs: 999 }],
    ["orders.breaker.openJitter", { openJitter: 1 }],
    ["orders.breaker.successesToClose", { successesToClose: 0 }],
    ["orders.breaker.rampMs", { rampMs: 0 }],
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
