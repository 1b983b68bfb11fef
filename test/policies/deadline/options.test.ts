import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InvalidOptionError, maxDurationMs } from "../../../src/core/options.js";
import {
  resolveTimeoutOptions,
  type TimeoutEnvironment,
  type TimeoutOptions,
} from "../../../src/policies/deadline/options.js";

describe("the timeouts of a call", () => {
  it("are all off unless given, and do not change", () => {
    const options = resolveTimeoutOptions();
    expect(options).toEqual({
      connectionMs: undefined,
      attemptMs: undefined,
      firstResponseMs: undefined,
      idleMs: undefined,
      totalMs: undefined,
    });
    expect(Object.isFrozen(options)).toBe(true);
  });

  it("may be equal where one runs inside the other", () => {
    const equal = {
      connectionMs: 500,
      attemptMs: 500,
      firstResponseMs: 500,
      idleMs: 500,
      totalMs: 500,
    };
    expect(resolveTimeoutOptions(equal, "timeouts", { deadlineDefaultMs: 500 })).toEqual(equal);
  });

  it.each([
    [
      "timeouts.attemptMs must be at most timeouts.totalMs, which is 1000, got 2000",
      { attemptMs: 2_000, totalMs: 1_000 },
    ],
    [
      "timeouts.firstResponseMs must be at most timeouts.attemptMs, which is 200, got 300",
      { firstResponseMs: 300, attemptMs: 200, totalMs: 1_000 },
    ],
    [
      "timeouts.firstResponseMs must be at most timeouts.totalMs, which is 1000, got 2000",
      { firstResponseMs: 2_000, totalMs: 1_000 },
    ],
    [
      "timeouts.connectionMs must be at most timeouts.totalMs, which is 1000, got 2000",
      { connectionMs: 2_000, totalMs: 1_000 },
    ],
    [
      "timeouts.connectionMs must be at most timeouts.attemptMs, which is 200, got 300",
      { connectionMs: 300, attemptMs: 200 },
    ],
    [
      "timeouts.idleMs must be at most timeouts.totalMs, which is 1000, got 2000",
      { idleMs: 2_000, totalMs: 1_000 },
    ],
    [
      "timeouts.idleMs must be at most timeouts.attemptMs, which is 200, got 300",
      { idleMs: 300, attemptMs: 200 },
    ],
  ])("contradict each other: %s", (message, options) => {
    expect(() => resolveTimeoutOptions(options)).toThrow(message);
  });

  it.each([
    [
      "timeouts.totalMs must be above the backoff before the first retry, which is 100, got 100",
      { retryBaseMs: 100 },
    ],
    [
      "timeouts.totalMs must be at least the default deadline, which is 101, got 100",
      { deadlineDefaultMs: 101 },
    ],
  ])("contradict other policies: %s", (message, also: TimeoutEnvironment) => {
    expect(() => resolveTimeoutOptions({ totalMs: 100 }, "timeouts", also)).toThrow(message);
    expect(() => resolveTimeoutOptions({ attemptMs: 100 }, "timeouts", also)).not.toThrow();
    expect(() => resolveTimeoutOptions({ totalMs: 102 }, "timeouts", also)).not.toThrow();
  });

  it("make no difference to one another when they do not meet", () => {
    const options = { connectionMs: 900, firstResponseMs: 500, idleMs: 100 };
    expect(resolveTimeoutOptions(options)).toMatchObject(options);
    expect(resolveTimeoutOptions({ idleMs: 900, firstResponseMs: 500 }).idleMs).toBe(900);
  });

  it("are either refused with a reason, or can each pass before those that run around it", () => {
    const ms = fc.option(fc.integer({ min: 1, max: 20 }), { nil: undefined });
    const drawn = fc.record({
      connectionMs: ms,
      attemptMs: ms,
      firstResponseMs: ms,
      idleMs: ms,
      totalMs: ms,
    });
    fc.assert(
      fc.property(drawn, (given) => {
        const { attemptMs, totalMs } = given;
        const parts = [given.connectionMs, given.firstResponseMs, given.idleMs];
        const within = (inner = 0, outer = Infinity) => inner <= outer;
        const agree =
          within(attemptMs, totalMs) &&
          parts.every((part) => within(part, attemptMs) && within(part, totalMs));
        const resolve = () => resolveTimeoutOptions(given as TimeoutOptions);
        if (agree) expect(resolve()).toEqual(given);
        else expect(resolve).toThrow(InvalidOptionError);
      }),
    );
  });

  it.each(
    ["connectionMs", "attemptMs", "firstResponseMs", "idleMs", "totalMs"].flatMap((name) =>
      [0, -1, Number.NaN, maxDurationMs + 1, null, "1s"].map((value) => [name, value] as const),
    ),
  )("refuse a senseless %s of %s", (name, value) => {
    expect(() => resolveTimeoutOptions({ [name]: value }, "orders.timeouts")).toThrow(
      expect.objectContaining({
        name: InvalidOptionError.name,
        option: `orders.timeouts.${name}`,
      }),
    );
  });

  it("refuse a name that is none of theirs", () => {
    expect(() => resolveTimeoutOptions({ overallMs: 1 } as TimeoutOptions)).toThrow(
      "timeouts.overallMs is not an option; the options are connectionMs, attemptMs,",
    );
  });
});
