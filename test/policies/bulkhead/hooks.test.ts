import { describe, expect, it } from "vitest";
import { partitionOf, weightOf } from "../../../src/policies/bulkhead/bulkhead.js";

function reported() {
  const errors: string[] = [];
  const report = (error: unknown, where: string) => {
    errors.push(`${where}: ${error instanceof Error ? error.message : String(error)}`);
  };
  return { errors, report };
}

describe("the weight that a user gives a call", () => {
  it("is 1 where nobody gives any", () => {
    const { errors, report } = reported();
    expect(weightOf(undefined, "call", report, "weight")).toBe(1);
    expect(weightOf((call: string) => call.length, "call", report, "weight")).toBe(4);
    expect(errors).toEqual([]);
  });

  it.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, "3", null, undefined, true])(
    "is 1, and reported, when it is %o",
    (answer) => {
      const { errors, report } = reported();
      expect(weightOf(() => answer as number, "call", report, "weight")).toBe(1);
      expect(errors).toEqual([
        `weight: a weight is a whole number of at least 1, got ${typeof answer === "string" ? `"${answer}"` : String(answer)}`,
      ]);
    },
  );

  it.each([Symbol("heavy"), Object.create(null)])("is 1, and reported, even for %o", (answer) => {
    const { errors, report } = reported();
    expect(weightOf(() => answer as number, "call", report, "weight")).toBe(1);
    expect(errors).toHaveLength(1);
  });

  it("is 1, and reported, when the function throws, even into a broken reporter", () => {
    const { errors, report } = reported();
    const broken = () => {
      throw new Error("broken");
    };
    expect(weightOf(broken, "call", report, "weight")).toBe(1);
    expect(errors).toEqual(["weight: broken"]);
    expect(weightOf(broken, "call", broken, "weight")).toBe(1);
  });
});

describe("the partition that a user names", () => {
  it("is the default one where nobody names any, or the function throws, which is reported", () => {
    const { errors, report } = reported();
    expect(partitionOf(undefined, "call", report, "partition")).toBeUndefined();
    expect(partitionOf((call: string) => call, "call", report, "partition")).toBe("call");
    const broken = () => {
      throw new Error("broken");
    };
    expect(partitionOf(broken, "call", report, "partition")).toBeUndefined();
    expect(errors).toEqual(["partition: broken"]);
  });
});
