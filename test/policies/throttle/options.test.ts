import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import { resolveThrottleOptions } from "../../../src/policies/throttle/options.js";

describe("throttle options", () => {
  it("have the defaults that their documentation names", () => {
    expect(resolveThrottleOptions({})).toEqual({
      windowMs: 60_000,
      k: 1.5,
      minCalls: 10,
      maxRefusedShare: 0.9,
      forcedPassMs: 1_000,
      recoveryMs: 1_000,
      collaborative: true,
      passShare: 0.01,
    });
  });

  it("keep what is given, at the bounds too", () => {
    const given = {
      windowMs: 1_000,
      k: 100,
      minCalls: 1,
      maxRefusedShare: 1,
      forcedPassMs: 1,
      recoveryMs: 1,
      collaborative: false,
      passShare: 0,
    };
    expect(resolveThrottleOptions(given)).toEqual(given);
    expect(resolveThrottleOptions({ k: 1.01, passShare: 1 })).toMatchObject({ k: 1.01 });
  });

  it.each([
    ["windowMs", 999],
    ["windowMs", Number.NaN],
    ["k", 1],
    ["k", 0.5],
    ["k", 101],
    ["k", "2"],
    ["minCalls", 0],
    ["minCalls", 1.5],
    ["maxRefusedShare", 0],
    ["maxRefusedShare", 1.1],
    ["forcedPassMs", 0],
    ["recoveryMs", 0],
    ["collaborative", "yes"],
    ["passShare", -0.1],
    ["passShare", 2],
    ["window", 1],
  ])("refuse %s of %j, and name it", (option, value) => {
    const build = () => resolveThrottleOptions({ [option]: value }, "client.throttle");
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(
      expect.objectContaining({ name: "InvalidOptionError", option: `client.throttle.${option}` }),
    );
  });
});
