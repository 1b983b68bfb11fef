import { describe, expect, it } from "vitest";
import { keptAttributes, keptText } from "../../src/viewer/attributes.js";

const kept = (value: unknown) => Object.values(keptAttributes([["a", value]]))[0];

describe("an attribute", () => {
  it.each<[string, unknown, unknown]>([
    ["text", "text", "text"],
    ["a number", 1.5, 1.5],
    ["false", false, false],
    ["not a number", Number.NaN, "NaN"],
    ["infinite", Number.POSITIVE_INFINITY, "Infinity"],
    ["a whole number of 64 bits", 42n, 42],
    ["one that a number cannot hold", 9_007_199_254_740_993n, "9007199254740993"],
    ["a list", ["a", 1, true, null, undefined], ["a", 1, true, null, null]],
    ["an object", { deep: [1n] }, '{"deep":[1]}'],
    ["absent", undefined, undefined],
    ["null", null, undefined],
  ])("that is %s is kept as JSON has it", (_, value, expected) => {
    expect(kept(value)).toEqual(expected);
  });

  it("is cut where it is too long", () => {
    expect(kept("x".repeat(5_000))).toBe(`${"x".repeat(4_096)}…`);
    expect(kept(Array.from({ length: 100 }, () => 1))).toHaveLength(64);
  });

  it("named __proto__ is one as any other", () => {
    expect(Object.entries(keptAttributes([["__proto__", "x"]]))).toEqual([["__proto__", "x"]]);
  });
});

it("of one span 128 attributes are kept", () => {
  const many = Array.from({ length: 200 }, (_, index) => [`a${index}`, index] as const);
  expect(Object.keys(keptAttributes(many))).toHaveLength(128);
});

it("a text is not cut in the middle of a character", () => {
  expect(keptText(`${"x".repeat(4_095)}😀`)).toBe(`${"x".repeat(4_095)}\uFFFD…`);
});
