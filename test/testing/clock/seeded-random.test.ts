import { expect, it } from "vitest";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";

function draw(seed: number, count: number): number[] {
  const random = seededRandom(seed);
  return Array.from({ length: count }, random);
}

it("draws the same numbers for the same seed", () => {
  expect(draw(42, 50)).toEqual(draw(42, 50));
});

it("draws other numbers for another seed", () => {
  expect(draw(1, 10)).not.toEqual(draw(2, 10));
});

it("draws the published first numbers of mulberry32", () => {
  // What the reference implementation gives; a slip of one shift would still look random.
  expect(draw(0, 3).map((x) => Math.floor(x * 2 ** 32))).toEqual([1144304738, 1416247, 958946056]);
});

it("draws evenly from [0, 1)", () => {
  const buckets = Array.from({ length: 10 }, () => 0);
  for (const x of draw(7, 20_000)) {
    expect(x).toBeGreaterThanOrEqual(0);
    expect(x).toBeLessThan(1);
    const bucket = Math.floor(x * 10);
    buckets[bucket] = (buckets[bucket] ?? 0) + 1;
  }
  for (const count of buckets) expect(Math.abs(count - 2_000)).toBeLessThan(200);
});
