import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Priority, priorities, priorityRank } from "../../../src/core/priority.js";
import { LoadThresholds, PressureShedder } from "../../../src/policies/admission/shedders.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";

/** Calls come for `seconds`, a thousand a second, a fifth of them high, half normal, the rest low; what share of each priority is refused in the last of them? */
function shed(
  pressureAt: (ms: number) => number,
  seconds: number,
  options = { target: 0.5, maxRefusedShare: 0.95, shedOn: [] },
) {
  const random = seededRandom(7);
  let pressure = 0;
  const shedder = new PressureShedder(options, { of: () => pressure }, () => true);
  const seen = { critical: 0, high: 0, normal: 0, low: 0 };
  const refused = { critical: 0, high: 0, normal: 0, low: 0 };
  for (let ms = 0; ms < seconds * 1000; ms += 1) {
    pressure = pressureAt(ms);
    const draw = random();
    const priority = draw < 0.2 ? "high" : draw < 0.7 ? "normal" : "low";
    const cohort = Math.floor(random() * 128);
    const no = shedder.judge(
      { priority, cohort },
      { load: 0.5, nowMs: 10_000 + ms, worstWaiting: undefined, owed: false },
    );
    if (ms < (seconds - 1) * 1000) continue;
    seen[priority] += 1;
    if (no !== undefined) refused[priority] += 1;
  }
  const share = (priority: Priority) => refused[priority] / Math.max(1, seen[priority]);
  return {
    high: share("high"),
    normal: share("normal"),
    low: share("low"),
    total: shedder.shareAt(10_000 + seconds * 1000),
  };
}

it("thresholds refuse each priority from its own load on, but none that is owed a slot or is critical", () => {
  const thresholds = new LoadThresholds({ low: 0.7, normal: 0.85, high: 1 });
  const refuses = (priority: Priority, load: number, more = {}) =>
    thresholds.judge(
      { priority, cohort: 0 },
      { load, nowMs: 0, worstWaiting: undefined, owed: false, ...more },
    );
  expect(refuses("low", 0.69)).toBeUndefined();
  expect(refuses("low", 0.7)).toBe("load has reached 0.7 for low");
  expect(refuses("low", 0.7, { owed: true })).toBeUndefined();
  expect(refuses("low", 0.7, { worstWaiting: "low" })).toBe("load has reached 0.7 for low");
  expect(refuses("normal", 0.85, { worstWaiting: "low" })).toBeUndefined();
  expect([refuses("high", 2), refuses("critical", 2)]).toEqual([undefined, undefined]);
});

describe("shedding by pressure", () => {
  it("refuses nobody while the pressure is at its target or below", () => {
    expect(shed(() => 0.5, 5)).toEqual({ high: 0, normal: 0, low: 0, total: 0 });
    expect(shed(() => 0, 5).total).toBe(0);
  });

  it("refuses the lowest priority first, and the next when that is not enough", () => {
    const first = shed((ms) => (ms < 150 ? 1 : 0.5), 3);
    expect(first.low).toBeGreaterThan(0.5);
    expect(first.normal).toBe(0);
    const second = shed((ms) => (ms < 550 ? 1 : 0.5), 3);
    expect(second.low).toBe(1);
    expect(second.normal).toBeGreaterThan(0.3);
    expect(second.normal).toBeLessThan(0.7);
    expect(second.high).toBe(0);
  });

  it("never refuses more than its maximum, and comes down when the pressure is gone", () => {
    const held = shed(() => 1, 10);
    expect(held.total).toBe(0.95);
    expect(held.high).toBeGreaterThan(0.5);
    expect(held.high).toBeLessThan(0.9);
    expect(shed((ms) => (ms < 3_000 ? 1 : 0), 9).total).toBe(0);
  });

  it("sheds the cohorts below the one at which its share lies", () => {
    const options = { target: 0.5, maxRefusedShare: 0.5, shedOn: [] };
    let pressure = 0;
    const shedder = new PressureShedder(options, { of: () => pressure }, () => true);
    const at = (nowMs: number) => ({ load: 0, nowMs, worstWaiting: undefined, owed: false });
    const refuses = (cohort: number, nowMs: number) =>
      shedder.judge({ priority: "low", cohort }, at(nowMs)) !== undefined;
    // The first call, of which there are no others to compare with, is not refused without pressure.
    expect(refuses(0, 0)).toBe(false);
    pressure = 1;
    for (let nowMs = 100; nowMs < 2_000; nowMs += 10) refuses(127, nowMs);
    expect([63, 64].map((cohort) => refuses(cohort, 2_000))).toEqual([true, false]);
    // Nobody of a priority that does not come is left out, where a worse one that comes is shed in part.
    expect(shedder.judge({ priority: "normal", cohort: 0 }, at(2_000))).toBeUndefined();
  });

  it.each([
    ["by a quarter in a second without any pressure", 0, 0.75],
    ["by all of it in a second at the most", 0.01, 0],
    ["by as much as the pressure lacks to its target", 0.85, 0.5],
    ["not at its target", 0.9, 1],
  ])("lets the share fall %s", (_how, now, expected) => {
    let pressure = 1;
    const options = { target: 0.9, maxRefusedShare: 1, shedOn: [] };
    const shedder = new PressureShedder(options, { of: () => pressure }, () => true);
    for (let nowMs = 0; nowMs <= 2_000; nowMs += 100) shedder.shareAt(nowMs);
    expect(shedder.shareAt(2_000)).toBe(1);
    pressure = now;
    const after = Array.from({ length: 10 }, (_, step) => shedder.shareAt(2_100 + 100 * step));
    expect(after[4]).toBeCloseTo(1 - (1 - expected) / 2);
    expect(after[9]).toBeCloseTo(expected);
  });

  it("takes a silence for no pressure", () => {
    let pressure = 1;
    const shedder = new PressureShedder(
      { target: 0.5, maxRefusedShare: 1, shedOn: [] },
      { of: () => pressure },
      () => true,
    );
    const ask = (nowMs: number) =>
      shedder.judge(
        { priority: "low", cohort: 0 },
        { load: 0, nowMs, worstWaiting: undefined, owed: false },
      );
    ask(1_000);
    pressure = 0.6;
    ask(86_400_000);
    expect(shedder.shareAt(86_400_000)).toBeLessThan(0.9);
  });

  it("forgets the pressure also while nothing comes that it could shed", () => {
    let pressure = 1;
    const shedder = new PressureShedder(
      { target: 0.5, maxRefusedShare: 1, shedOn: [] },
      { of: () => pressure },
      () => true,
    );
    for (let nowMs = 0; nowMs < 3_000; nowMs += 100) shedder.shareAt(nowMs);
    expect(shedder.shareAt(3_000)).toBeGreaterThan(0.9);
    pressure = 0;
    for (let nowMs = 3_000; nowMs < 8_000; nowMs += 1_000) shedder.shareAt(nowMs);
    expect(shedder.shareAt(8_000)).toBe(0);
  });

  it("refuses a call only where it refuses every worse one: lower priority, or lower cohort of the same", () => {
    const call = fc.record({
      priority: fc.constantFrom(...priorities.filter((priority) => priority !== "critical")),
      cohort: fc.nat(127),
      pressure: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.array(call, { minLength: 1, maxLength: 300 }), (calls) => {
        let pressure = 0;
        const shedder = new PressureShedder(
          { target: 0.4, maxRefusedShare: 1, shedOn: [] },
          { of: () => pressure },
          () => true,
        );
        let nowMs = 0;
        for (const { priority, cohort, pressure: next } of calls) {
          pressure = next;
          nowMs += 60;
          // Asked in the same moment, so at the same level.
          const at = { load: 0, nowMs, worstWaiting: undefined, owed: false };
          const refused = shedder.judge({ priority, cohort }, at) !== undefined;
          if (!refused) continue;
          for (const other of priorities) {
            if (priorityRank[other] <= priorityRank[priority]) continue;
            expect(shedder.judge({ priority: other, cohort: 127 }, at)).toBeDefined();
          }
          expect(shedder.judge({ priority, cohort: 0 }, at)).toBeDefined();
        }
      }),
    );
  });
});

describe("shedding by pressure needs a victim", () => {
  function shareAfter(
    seconds: number,
    late: (nowMs: number) => boolean,
    shedOn: readonly string[],
  ): number {
    const options = { target: 0.5, maxRefusedShare: 0.95, shedOn };
    const meter = { of: (names: Iterable<string>) => ([...names].length > 0 ? 1 : 0) };
    const shedder = new PressureShedder(options, meter, late);
    let share = 0;
    for (let ms = 0; ms <= seconds * 1000; ms += 50) share = shedder.shareAt(10_000 + ms);
    return share;
  }

  it("refuses nobody while calls are in time, however hard pressed the process is", () => {
    expect(shareAfter(10, () => false, ["loopDelayMs", "memory"])).toBe(0);
    expect(shareAfter(10, () => true, ["loopDelayMs", "memory"])).toBe(0.95);
  });

  it("lets everybody in again when calls are in time again, though the pressure stays", () => {
    expect(shareAfter(10, (nowMs) => nowMs < 15_000, ["memory"])).toBe(0);
  });

  it("takes a signal of the user's own for the user's word", () => {
    expect(shareAfter(10, () => false, ["memory", "pool"])).toBe(0.95);
  });
});
