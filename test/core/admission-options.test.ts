import { describe, expect, it } from "vitest";
import {
  type AdmissionOptions,
  resolveAdmissionOptions,
} from "../../src/core/admission-options.js";
import { InvalidOptionError } from "../../src/core/options.js";

describe("admission options", () => {
  it("have defaults, and a queue as long as the limit", () => {
    expect(resolveAdmissionOptions({ limit: 7 })).toEqual({
      limit: 7,
      maxQueued: 7,
      maxWaitMs: 100,
      thresholds: { low: 0.7, normal: 0.85, high: 0.95 },
      criticalHeadroom: 0.1,
      publish: true,
    });
    expect(resolveAdmissionOptions({}).limit).toBe(100);
  });

  it.each([
    [{ limit: 0 }, "admission.limit must be a whole number of at least 1, got 0"],
    [{ maxQueued: -1 }, "admission.maxQueued must be a whole number of at least 0, got -1"],
    [{ maxWaitMs: -1 }, "admission.maxWaitMs must be milliseconds from 0"],
    [{ criticalHeadroom: 1.1 }, "admission.criticalHeadroom must be a number from 0 to 1, got 1.1"],
    [{ thresholds: { low: 0 } }, "admission.thresholds.low must be a number above 0 and up to 1"],
    [
      { thresholds: { high: 1.01 } },
      "admission.thresholds.high must be a number above 0 and up to 1",
    ],
    [
      { thresholds: { low: 0.9 } },
      "admission.thresholds.low must be at most admission.thresholds.normal, 0.85, got 0.9",
    ],
    [
      { thresholds: { high: 0.8 } },
      "admission.thresholds.normal must be at most admission.thresholds.high, 0.8, got 0.85",
    ],
    [{ thresholds: { critical: 1 } }, "admission.thresholds.critical must be absent"],
    [{ thresholds: 0.5 }, "admission.thresholds must be an object of options, got 0.5"],
    [{ treshold: 1 }, "admission.treshold must be absent"],
  ])("refuse %o", (options, message) => {
    const resolve = () => resolveAdmissionOptions(options as AdmissionOptions);
    expect(resolve).toThrow(InvalidOptionError);
    expect(resolve).toThrow(message);
  });

  it("name the place they were given in", () => {
    expect(() => resolveAdmissionOptions({ thresholds: { low: 2 } }, "server.admission")).toThrow(
      "server.admission.thresholds.low",
    );
  });
});
