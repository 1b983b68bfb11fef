import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import { ElasticLimit } from "../../../src/policies/limits/elastic.js";
import type { Limit } from "../../../src/policies/limits/limit.js";
import { type LimitOptions, resolveLimit } from "../../../src/policies/limits/options.js";

const signals = { ceilingMs: () => undefined, demand: () => 0 };
const made = (options: LimitOptions) => resolveLimit(options)(signals, () => {});

describe("the limit option", () => {
  it("takes a number for a limit that stays", () => {
    expect(made(7).current).toBe(7);
  });

  it("takes adaptive for the elastic limit, which starts at its cap", () => {
    expect(made("adaptive")).toBeInstanceOf(ElasticLimit);
    expect(made("adaptive").current).toBe(1_000);
    expect(made({ algorithm: "elastic", max: 60 }).current).toBe(60);
  });

  it.each(["aimd", "vegas", "gradient2"])(
    "says where %s is an example of a limit of one's own",
    (name) => {
      for (const [option, given] of [
        ["limit", name],
        ["limit.algorithm", { algorithm: name, max: 50 }],
      ] as const) {
        expect(() => resolveLimit(given as LimitOptions)).toThrow(
          `${option} must be "elastic", or a limit of one's own: ${name} is an example of one, in examples/limits/${name}.ts, got`,
        );
      }
    },
  );

  /** The limit after calls that came so many milliseconds apart. */
  const limitAfter = (limit: Limit, calls: number, everyMs: number, tookMs: number) => {
    for (let call = 0; call < calls; call += 1) {
      limit.record(call * everyMs, tookMs, limit.current, "success");
    }
    return limit.current;
  };

  it.each<[string, LimitOptions, number]>([
    ["every half a second", { algorithm: "elastic", ceilingMs: 1 }, 1_000],
    ["as often as it is told", { algorithm: "elastic", ceilingMs: 1, windowMs: 10 }, 20],
  ])("lets elastic change %s", (_when, options, expected) => {
    // The first window is left out.
    const limit = made(options);
    let nowMs = 0;
    for (; limit.current === 1_000; nowMs += 0.5) limit.record(nowMs, 20, 20, "failure");
    expect(nowMs - 0.5).toBe(expected);
  });

  it("compares all calls with the ceiling that elastic is given, and with none where there is none", () => {
    const slow = (ceilingMs: number | false) =>
      limitAfter(made({ algorithm: "elastic", ceilingMs }), 100, 20, 300);
    expect(slow(200)).toBeLessThan(1_000);
    expect(slow(1)).toBeLessThan(1_000);
    expect(slow(400)).toBe(1_000);
    expect(slow(false)).toBe(1_000);
  });

  it("lets elastic see a surge by its own ceiling, too", () => {
    let demand = 5;
    const limit = resolveLimit({ algorithm: "elastic", ceilingMs: 150 })(
      { ...signals, demand: () => demand },
      () => {},
    );
    for (let ms = 0; ms < 2_000; ms += 4) limit.record(ms, 20, 5, "success");
    for (let ms = 2_002; ms < 2_060; ms += 2) {
      demand += 9;
      limit.record(ms, 20, 5, "success");
    }
    expect(limit.current).toBeLessThan(60);
  });

  it.each<LimitOptions>([
    1,
    { algorithm: "elastic", min: 1, max: 1 },
    { algorithm: "elastic", min: 1_000_000, max: 1_000_000 },
    { algorithm: "elastic", windowMs: 10, ceilingMs: 1 },
    { current: 1, record: () => {} },
  ])("takes %j", (options) => {
    expect(made(options).current).toBeGreaterThanOrEqual(1);
  });

  it("takes a limit of the user's own", () => {
    const own = { current: 3, record: () => {} };
    const limit = made(own);
    expect(limit.current).toBe(3);
    own.current = 5;
    expect(limit.current).toBe(5);
  });

  it("keeps to what a limit of the user's own said last that made sense, and reports what it throws", () => {
    const errors: string[] = [];
    const own = {
      current: 3,
      record: () => {
        throw new Error("broken");
      },
    };
    const limit = resolveLimit(own)(signals, (_error, where) => errors.push(where));
    own.current = Number.NaN;
    limit.record(0, 1, 1, "success");
    expect(limit.current).toBe(3);
    expect(limit.current).toBe(3);
    expect(errors).toEqual(["limit.record", "limit.current"]);
    own.current = 5;
    expect(limit.current).toBe(5);
    for (const nonsense of [0, 1.5, "7" as never]) {
      own.current = nonsense;
      expect(limit.current).toBe(5);
    }
    own.current = 1;
    expect(limit.current).toBe(1);
    own.current = 5;
    expect(limit.current).toBe(5);
    own.current = 0;
    expect(limit.current).toBe(5);
    expect(errors).toEqual(["limit.record", "limit.current", "limit.current", "limit.current"]);
  });

  it.each([
    ["limit", 0],
    ["limit", 1.5],
    ["limit", "auto"],
    ["limit", null],
    ["limit.algorithm", { algorithm: "guess" }],
    ["limit.algorithm", {}],
    ["limit.max", { algorithm: "elastic", max: 0 }],
    ["limit.max", { algorithm: "elastic", max: 1_000_001 }],
    ["limit.min", { algorithm: "elastic", min: 0 }],
    ["limit.ceilingMs", { algorithm: "elastic", ceilingMs: 0.9 }],
    ["limit.min", { algorithm: "elastic", min: 9, max: 8 }],
    ["limit.initial", { algorithm: "elastic", initial: 20 }],
    ["limit.windowMs", { algorithm: "elastic", windowMs: 9.9 }],
    ["limit.ceilingMs", { algorithm: "elastic", ceilingMs: "none" }],
    ["limit.current", { current: 0, record: () => {} }],
    ["limit.record", { current: 5, record: "no" }],
    ["limit.record", { current: 5 }],
    ["limit.current", { algorithm: "elastic", current: 5 }],
    ["limit", []],
    ["limit", () => 5],
    ["limit.max", { algorithm: "elastic", max: null }],
    ["limit.min", { algorithm: "elastic", min: null }],
    ["limit.windowMs", { algorithm: "elastic", windowMs: null }],
    ["limit.ceilingMs", { algorithm: "elastic", ceilingMs: null }],
  ])("refuses nonsense and names %s", (option, options) => {
    const build = () => resolveLimit(options as LimitOptions);
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(expect.objectContaining({ option }));
  });

  it("says what a limit of one's own has, where one is meant and not complete", () => {
    const build = (options: unknown) => () => resolveLimit(options as LimitOptions);
    const whole = "a limit of one's own has current and record()";
    expect(build({ current: 5 })).toThrow(
      `limit.record must be a function: ${whole}, got undefined`,
    );
    expect(build("auto")).toThrow(whole);
  });
});
