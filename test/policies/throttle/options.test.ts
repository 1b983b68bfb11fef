import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import { resolveThrottleOptions } from "../../../src/policies/throttle/options.js";

describe("throttle options", () => {
  it("have the defaults that their documentation names", () => {
    expect(resolveThrottleOptions({})).toEqual({
      windowMs: 60_000,
      k: 1.5,
      minRequests: 10,
      maxRejectRatio: 0.9,
      forcedPassMs: 1_000,
      recoveryMs: 1_000,
      collaborative: true,
      probeRatio: 0.01,
    });
  });

  it("keep what is given, at the bounds too", () => {
    const given = {
      windowMs: 1_000,
      k: 100,
      minRequests: 1,
      maxRejectRatio: 1,
      forcedPassMs: 1,
      recoveryMs: 1,
      collaborative: false,
      probeRatio: 0,
    };
    expect(resolveThrottleOptions(given)).toEqual(given);
    expect(resolveThrottleOptions({ k: 1.01, probeRatio: 1 })).toMatchObject({ k: 1.01 });
  });

  it.each([
    ["windowMs", 999],
    ["windowMs", Number.NaN],
    ["k", 1],
    ["k", 0.5],
    ["k", 101],
    ["k", "2"],
    ["minRequests", 0],
    ["minRequests", 1.5],
    ["maxRejectRatio", 0],
    ["maxRejectRatio", 1.1],
    ["forcedPassMs", 0],
    ["recoveryMs", 0],
    ["collaborative", "yes"],
    ["probeRatio", -0.1],
    ["probeRatio", 2],
    ["window", 1],
  ])("refuse %s of %j, and name it", (option, value) => {
    const build = () => resolveThrottleOptions({ [option]: value }, "client.throttle");
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(
      expect.objectContaining({ name: "InvalidOptionError", option: `client.throttle.${option}` }),
    );
  });
});
