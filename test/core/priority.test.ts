import { expect, it } from "vitest";
import { cohortOf, isPriority, priorities, priorityRank } from "../../src/core/priority.js";

// Services of different versions shed the same users only as long as these numbers stay.
it.each([
  ["", 0, 27],
  ["a", 0, 65],
  ["tenant-7", 1_764_000_000_000, 113],
  ["tenant-7", 1_764_000_000_000 + 3_600_000, 83],
  ["tenant-7", 921_600_000, 22],
  ["tenant-8", 1_764_000_000_000, 27],
  ["Zoë 水", 1_764_000_000_000, 79],
  ["a much longer name of a tenant", 1_651_510_799_999, 7],
  ["tenant-7", 720_000_000, 88],
  ["tenant-7", 40_000_000_000_000, 2],
])("the cohort of %j at %d is %d in every service", (key, wallMs, cohort) => {
  expect(cohortOf(key, wallMs)).toBe(cohort);
});

it("the four names are priorities, and nothing else is", () => {
  for (const priority of priorities) expect(isPriority(priority)).toBe(true);
  for (const other of ["", "CRITICAL", "sheddable", 0, undefined, null, []]) {
    expect(isPriority(other)).toBe(false);
  }
});

it("the ranks of priorities count from 0, the most important first", () => {
  expect(priorities.map((priority) => priorityRank[priority])).toEqual([0, 1, 2, 3]);
});
