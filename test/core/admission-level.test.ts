import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AnnouncedLevel, isRefusedAt, placeOf } from "../../src/core/admission-level.js";

const never = () => 1 - 2 ** -53;
const low = 3;

function scene(passShare = 0, random: () => number = never) {
  const announced = new AnnouncedLevel(passShare, random);
  const note = (level: number, atMs: number, times = 1, ttlMs = 1_000) => {
    for (let n = 0; n < times; n += 1) announced.note({ level, ttlMs }, atMs);
  };
  return { announced, note };
}

describe("the place of a call", () => {
  it("is its rank and, behind the point, its cohort, the lower ones further back", () => {
    const places = [placeOf(0), placeOf(2), placeOf(2, 127), placeOf(2, 63), placeOf(3, 0)];
    expect(places).toEqual([0, 2, 2, 2.5, 3.9921875]);
  });

  it.each([
    [3, 3, true],
    [3, 3.01, false],
    [2.5, 2.5, true],
    [2, 2.64, false],
    [1, 1, true],
    [0.9, 0, false],
    [0, 0, false],
  ])(
    "%d is refused by level %d: %s, and never that of a critical call",
    (place, level, refused) => {
      expect(isRefusedAt(place, level)).toBe(refused);
    },
  );
});

describe("a level that answers tell", () => {
  it("holds what it refuses back after five answers in a row, for what is left of it", () => {
    const { announced, note } = scene();
    note(3, 0, 4);
    expect(announced.holdsBackMs(low, 0)).toBeUndefined();
    note(3, 100);
    expect(announced.holdsBackMs(low, 300)).toBe(800);
    expect(announced.holdsBackMs(2, 300)).toBeUndefined();
  });

  it("ends at once with an answer that has none", () => {
    const { announced, note } = scene();
    note(3, 0, 50);
    announced.noteNone();
    expect(announced.silent).toBe(true);
    note(3, 0, 4);
    expect(announced.holdsBackMs(low, 0)).toBeUndefined();
    note(3, 0);
    expect(announced.holdsBackMs(low, 0)).toBe(1_000);
  });

  it("ends by time, and has to be told anew then", () => {
    const { announced, note } = scene();
    note(3, 0, 5);
    expect(announced.holdsBackMs(low, 249)).toBe(751);
    expect(announced.level(999)).toBe(3);
    expect(announced.level(1_000)).toBeUndefined();
    note(3, 1_000);
    expect(announced.level(1_001)).toBeUndefined();
  });

  it("is the highest of the last five: one server that sheds more does not speak for the others", () => {
    const { announced, note } = scene();
    note(1, 0, 4);
    note(3, 0);
    expect(announced.level(1)).toBe(3);
    note(2, 0, 4);
    expect(announced.level(1)).toBe(3);
    note(2, 0);
    expect(announced.level(1)).toBe(2);
  });

  it("does not stop calls to the others while one of two servers sheds", () => {
    const { announced, note } = scene();
    for (let n = 0; n < 100; n += 1) {
      note(3, n);
      expect(announced.holdsBackMs(low, n)).toBeUndefined();
      announced.noteNone();
    }
  });

  it("lets one call pass each quarter of its time", () => {
    const { announced, note } = scene();
    const passed: number[] = [];
    for (let ms = 0; ms < 1_000; ms += 10) {
      note(3, ms, 5);
      if (announced.holdsBackMs(low, ms) === undefined) passed.push(ms);
    }
    expect(passed).toEqual([250, 500, 750]);
  });

  it("lets a share pass, by the draw", () => {
    const { announced, note } = scene(0.01, () => 0.005);
    note(3, 0, 5);
    expect(announced.holdsBackMs(low, 1)).toBeUndefined();
    const { announced: other, note: tell } = scene(0.01, () => 0.01);
    tell(3, 0, 5);
    expect(other.holdsBackMs(low, 1)).toBe(999);
  });
});

it("never holds back longer than it was told, nor anybody whom one of the last five answers spares", () => {
  const step = fc.oneof(
    fc.record({
      level: fc.constantFrom(1, 2, 2.5, 3, 4),
      ttlMs: fc.integer({ min: 1, max: 2_000 }),
    }),
    fc.constant("silence" as const),
    fc.integer({ min: 0, max: 900 }),
  );
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 60 }),
      fc.double({ min: 0, max: 3.99 }),
      (script, place) => {
        const { announced } = scene(0.5, () => 0.7);
        let nowMs = 0;
        let last: (number | undefined)[] = [];
        let until = 0;
        for (const each of script) {
          if (typeof each === "number") nowMs += each;
          else if (each === "silence") {
            last = [];
            announced.noteNone();
          } else {
            last = [...(nowMs < until ? last : []), each.level].slice(-5);
            until = nowMs + each.ttlMs;
            announced.note(each, nowMs);
          }
          const leftMs = announced.holdsBackMs(place, nowMs);
          if (leftMs === undefined) continue;
          expect(leftMs).toBe(until - nowMs);
          expect(leftMs).toBeGreaterThan(0);
          expect(last.length).toBe(5);
          expect(place).toBeGreaterThanOrEqual(Math.max(1, ...last.map((level) => level ?? 4)));
        }
      },
    ),
    { numRuns: 500 },
  );
});
