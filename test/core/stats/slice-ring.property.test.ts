import fc from "fast-check";
import { expect, it } from "vitest";
import { SliceRing } from "../../../src/core/stats/slice-ring.js";

interface Counted {
  readonly slice: number;
  readonly counter: number;
}

const step = fc.record({
  // Mostly small steps, some across many slices, a few across the whole window and further, a few back.
  passMs: fc.oneof(
    { weight: 6, arbitrary: fc.nat(300).map((n) => n / 10) },
    { weight: 2, arbitrary: fc.nat(600) },
    { weight: 1, arbitrary: fc.nat(1_000_000) },
    { weight: 1, arbitrary: fc.integer({ min: -200, max: 0 }) },
  ),
  counter: fc.nat(2),
  age: fc.nat(9),
  act: fc.constantFrom("add", "add", "add", "add to an older one", "take back", "clear"),
});

it("counts as a list of all that was counted, looked through each time", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -1_000_000, max: 1_000_000 }),
      fc.integer({ min: 10, max: 1_000 }),
      fc.integer({ min: 1, max: 9 }),
      fc.array(step, { maxLength: 60, size: "max" }),
      (startMs, spanMs, slices, steps) => {
        const ring = new SliceRing(spanMs, slices, 3);
        let all: Counted[] = [];
        let nowMs = startMs;
        let newest = Number.NEGATIVE_INFINITY;
        for (const { passMs, counter, age, act } of steps) {
          nowMs += passMs;
          newest = Math.max(newest, Math.floor(nowMs / (spanMs / slices)));
          ring.advance(nowMs);
          all = all.filter(({ slice }) => newest - slice < slices);
          const slice = newest - Math.min(age, slices - 1);
          const present = all.findIndex((each) => each.slice === slice && each.counter === counter);
          if (act === "clear") {
            ring.clear();
            all = [];
          } else if (act === "add") {
            ring.add(counter);
            all.push({ slice: newest, counter });
          } else if (act === "add to an older one") {
            ring.add(counter, 1, slice);
            all.push({ slice, counter });
          } else if (present >= 0) {
            ring.add(counter, -1, slice);
            all.splice(present, 1);
          }
          expect(ring.newest).toBe(newest);
          for (const each of [0, 1, 2]) {
            const its = all.filter((counted) => counted.counter === each);
            expect(ring.total(each)).toBe(its.length);
            for (let held = newest; ring.holds(held); held -= 1) {
              expect(ring.within(held, each)).toBe(
                its.filter((counted) => counted.slice === held).length,
              );
            }
          }
        }
      },
    ),
  );
});

it("holds as many slices as it was made with, and tells which one a time belongs to", () => {
  const ring = new SliceRing(1_000, 4, 1);
  ring.advance(1_999);
  expect(ring.newest).toBe(7);
  expect([7, 6, 5, 4, 3].map((slice) => ring.holds(slice))).toEqual([
    true,
    true,
    true,
    true,
    false,
  ]);
  expect([0, 249, 250, -1].map((ms) => ring.sliceAt(ms))).toEqual([0, 0, 1, -1]);
});

it("adds several at once", () => {
  const ring = new SliceRing(1_000, 4, 2);
  ring.advance(0);
  ring.add(1, 5);
  expect([ring.total(0), ring.total(1)]).toEqual([0, 5]);
});
