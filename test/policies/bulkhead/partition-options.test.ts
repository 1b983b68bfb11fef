import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import {
  atMost,
  guarantees,
  type PartitionOptions,
  resolvePartitions,
} from "../../../src/policies/bulkhead/partition-options.js";

type Shares = Record<string, PartitionOptions>;

describe("partition options", () => {
  it("have defaults, and a default partition that may borrow all", () => {
    const shares = resolvePartitions({ checkout: { share: 0.5 }, batch: { maxShare: 0.3 } }, 10);
    expect([...shares]).toEqual([
      ["default", { share: 0, maxShare: 1 }],
      ["checkout", { share: 0.5, maxShare: 1 }],
      ["batch", { share: 0, maxShare: 0.3 }],
    ]);
  });

  it("may give the default partition a share", () => {
    expect(resolvePartitions({ default: { share: 0.2 } }, 10).get("default")).toEqual({
      share: 0.2,
      maxShare: 1,
    });
  });

  it("take shares that come to 1 but for what binary fractions lose", () => {
    const shares: Shares = {};
    for (let n = 0; n < 10; n += 1) shares[`tenth ${n}`] = { share: 0.1 };
    const resolved = [...resolvePartitions(shares, 10).values()].map(({ share }) => share);
    expect(resolved).toEqual([0, ...Object.values(shares).map(({ share }) => share)]);
    expect(() => resolvePartitions({ ...shares, more: { share: 0.01 } }, 100)).toThrow(
      "partitions must be given shares that come to 1 at most together, got 1.01",
    );
  });

  it.each([
    [{ a: { share: -0.1 } }, "partitions.a.share must be a number from 0 to 1, got -0.1"],
    [{ a: { share: Number.NaN } }, "partitions.a.share must be a number from 0 to 1, got NaN"],
    [{ a: { maxShare: 0 } }, "partitions.a.maxShare must be a number above 0 and up to 1, got 0"],
    [
      { a: { share: 0.5, maxShare: 0.4 } },
      "partitions.a.maxShare must be at least partitions.a.share",
    ],
    [{ a: { part: 0.5 } }, "partitions.a.part is not an option"],
    [{ a: 0.5 }, "partitions.a must be an object of options, got 0.5"],
    [{ a: { share: null } }, "partitions.a.share must be a number from 0 to 1, got null"],
    [[], "partitions must be an object of options, got an array"],
    [undefined, "partitions must be an object of options, got undefined"],
  ])("refuse %o", (options, message) => {
    const resolve = () => resolvePartitions(options as unknown as Shares, 10);
    expect(resolve).toThrow(InvalidOptionError);
    expect(resolve).toThrow(message);
  });

  it("refuse a share for which there is no permit", () => {
    const shares = { a: { share: 0.5 }, b: { share: 0.4 }, c: { share: 0.1 } };
    const permits = (total: number) => [...guarantees(resolvePartitions(shares, total), total)];
    expect(permits(3)).toEqual([
      ["default", 0],
      ["a", 1],
      ["b", 1],
      ["c", 1],
    ]);
    expect(() => resolvePartitions(shares, 2, "bulkhead.partitions")).toThrow(
      "bulkhead.partitions.c.share must be worth a permit: 2 are too few for all shares, got 0.1",
    );
  });
});

describe("shares of whole permits", () => {
  const allotted = (shares: Shares, total: number) => {
    const resolved = resolvePartitions(shares, 1_000);
    return Object.fromEntries(guarantees(resolved, total));
  };

  it("are rounded down, but a hair below a whole one is whole", () => {
    expect(allotted({ a: { share: 0.5 }, b: { share: 0.07 } }, 100)).toEqual({
      default: 0,
      a: 50,
      b: 7,
    });
    expect(allotted({ a: { share: 0.5 } }, 9)).toEqual({ default: 0, a: 4 });
  });

  it("are worth one at least, while there are enough", () => {
    const shares = { a: { share: 0.9 }, b: { share: 0.05 }, c: { share: 0.05 } };
    expect(allotted(shares, 4)).toEqual({ default: 0, a: 3, b: 1, c: 0 });
    expect(allotted(shares, 0)).toEqual({ default: 0, a: 0, b: 0, c: 0 });
  });

  it("bound what is borrowed to one permit at least, and to what there is at most", () => {
    expect([atMost(0.3, 10, 1), atMost(0.3, 2, 0), atMost(0.3, 4, 2), atMost(1, 0, 0)]).toEqual([
      3, 1, 2, 0,
    ]);
  });
});
