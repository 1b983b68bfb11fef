import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import { priorities } from "../../../src/core/priority.js";
import {
  Brownout,
  type BrownoutOptions,
  resolveBrownoutOptions,
  skipShare,
} from "../../../src/policies/brownout/brownout.js";

function workOf(work: BrownoutOptions["optional"][string]) {
  const resolved = resolveBrownoutOptions({ optional: { work } }).get("work");
  if (resolved === undefined) throw new Error("not resolved");
  return resolved;
}

const never = () => {
  throw new Error("nobody asked for chance");
};

describe("the options of a brownout", () => {
  it.each<[unknown, string]>([
    [{}, "brownout.optional"],
    [{ optional: {} }, "brownout.optional"],
    [{ optional: { "two words": {} } }, "brownout.optional"],
    [{ optional: { a: { skipAbovePressure: 1.1 } } }, "brownout.optional.a.skipAbovePressure"],
    [{ optional: { a: { skipAbovePressure: -0.1 } } }, "brownout.optional.a.skipAbovePressure"],
    [
      { optional: { a: { skipAllAbovePressure: 1.1 } } },
      "brownout.optional.a.skipAllAbovePressure",
    ],
    [
      { optional: { a: { skipAbovePressure: 0.6, skipAllAbovePressure: 0.5 } } },
      "brownout.optional.a.skipAllAbovePressure",
    ],
    [{ optional: { a: { mark: 1 } } }, "brownout.optional.a.mark"],
    [{ optional: { a: { above: 1 } } }, "brownout.optional.a.above"],
    [{ optional: { a: true } }, "brownout.optional.a"],
    [{ optional: { a: {} }, limit: 5 }, "brownout.limit"],
  ])("%j makes no sense, and is refused by name", (options, option) => {
    const resolve = () => resolveBrownoutOptions(options as BrownoutOptions);
    expect(resolve).toThrowError(InvalidOptionError);
    expect(resolve).toThrowError(expect.objectContaining({ option }));
  });

  it("work is skipped from half of the load on, and by all where low calls would be shed", () => {
    expect(workOf({})).toEqual({ skipAbovePressure: 0.5, skipAllAbovePressure: 0.7, mark: true });
    expect(workOf({ skipAbovePressure: 0.9 })).toMatchObject({ skipAllAbovePressure: 1 });
  });
});

describe("the dimmer", () => {
  const work = workOf({ skipAbovePressure: 0.6, skipAllAbovePressure: 0.8 });
  const shares = (pressure: number) =>
    priorities.map((priority) => Number(skipShare(work, priority, pressure).toFixed(6)));

  it("turns low calls down first, then normal ones, then high ones, and critical ones at the end", () => {
    //                          critical, high, normal, low
    expect(shares(0.6)).toEqual([0, 0, 0, 0]);
    expect(shares(0.65)).toEqual([0, 0, 0, 0.5]);
    expect(shares(0.7)).toEqual([0, 0, 0.5, 1]);
    expect(shares(0.75)).toEqual([0, 0.5, 1, 1]);
    expect(shares(0.79)).toEqual([0, 0.9, 1, 1]);
    expect(shares(0.8)).toEqual([1, 1, 1, 1]);
  });

  it("is a switch where both ends are the same", () => {
    const step = workOf({ skipAbovePressure: 0.7, skipAllAbovePressure: 0.7 });
    expect(skipShare(step, "high", 0.7)).toBe(0);
    expect(skipShare(step, "critical", 0.700001)).toBe(1);
  });

  it("skips nothing without pressure, even where the least is enough", () => {
    const eager = workOf({ skipAbovePressure: 0, skipAllAbovePressure: 0 });
    expect(skipShare(eager, "low", 0)).toBe(0);
    expect(skipShare(eager, "low", Number.NaN)).toBe(0);
    expect(skipShare(eager, "low", 0.01)).toBe(1);
  });
});

describe("a brownout", () => {
  function brownoutAt(pressure: () => number, errors: unknown[] = []) {
    const works = resolveBrownoutOptions({
      optional: { reviews: { skipAbovePressure: 0.2, skipAllAbovePressure: 0.4, mark: false } },
    });
    return new Brownout(works, { now: pressure }, (error) => errors.push(error));
  }

  it("goes by the flag where there is one, whatever the pressure", () => {
    const brownout = brownoutAt(() => 1);
    expect(brownout.judge("reviews", "critical", false, never)).toEqual({
      skip: true,
      by: "flag",
      mark: false,
      detail: "reviews: off",
    });
    for (const priority of ["low", "critical"] as const) {
      expect(brownout.judge("reviews", priority, true, never)).toMatchObject({ skip: false });
    }
    expect(brownout.snapshot().optional).toEqual({
      reviews: { asked: 3, skippedByFlag: 1, skippedByPressure: 0 },
    });
  });

  it("goes by the pressure and one draw where there is none", () => {
    const brownout = brownoutAt(() => 0.3);
    expect(brownout.judge("reviews", "normal", undefined, () => 0.49)).toEqual({
      skip: true,
      by: "pressure",
      mark: false,
      detail: "reviews: pressure 0.30, 50 % of normal calls skip it",
    });
    expect(brownout.judge("reviews", "normal", undefined, () => 0.51)).toMatchObject({
      skip: false,
    });
    expect(brownout.snapshot()).toEqual({
      pressure: 0.3,
      optional: { reviews: { asked: 2, skippedByFlag: 0, skippedByPressure: 1 } },
    });
  });

  it("draws nothing where there is nothing to decide, and knows its names", () => {
    const brownout = brownoutAt(() => 0.1);
    expect(brownout.judge("reviews", "low", undefined, never)).toMatchObject({ skip: false });
    expect(brownout.judge("revues", "low", undefined, never)).toBeUndefined();
    expect([brownout.knows("reviews"), brownout.knows("revues")]).toEqual([true, false]);
  });

  it.each<[string, () => number]>([
    ["throws", never],
    ["answers NaN", () => Number.NaN],
    ["answers nothing", () => undefined as never],
  ])("takes a pressure that %s for none, and reports it", (_what, pressure) => {
    const errors: unknown[] = [];
    const brownout = brownoutAt(pressure, errors);
    expect(brownout.judge("reviews", "low", undefined, never)).toMatchObject({ skip: false });
    expect(errors).toHaveLength(1);
    expect(brownout.snapshot().pressure).toBe(0);
  });

  it("gives a pressure that reads the brownout itself the last one, and reads anew after that", () => {
    let pressure = 0.3;
    const seen: number[] = [];
    const brownout = brownoutAt(() => {
      seen.push(brownout.snapshot().pressure);
      return pressure;
    });
    expect(brownout.snapshot().pressure).toBe(0.3);
    pressure = 0.4;
    expect(brownout.snapshot().pressure).toBe(0.4);
    expect(seen).toEqual([0, 0.3]);
  });

  it("takes a pressure beyond its range for the end of it", () => {
    expect(brownoutAt(() => 7).snapshot().pressure).toBe(1);
    expect(brownoutAt(() => -7).snapshot().pressure).toBe(0);
  });
});
