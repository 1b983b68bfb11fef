import { describe, expect, it } from "vitest";
import type { Outcome } from "../../../src/core/permit.js";
import { Lateness } from "../../../src/policies/admission/lateness.js";

/** Calls of one method after the other, each with so much time, that took so long. */
function lateness() {
  const made = new Lateness();
  let nowMs = 10_000;
  const calls = (
    count: number,
    tookMs: number,
    leftMs: number,
    { method = "m", everyMs = 10, outcome = tookMs < leftMs ? "success" : "failure" } = {},
  ) => {
    const told: boolean[] = [];
    for (let call = 0; call < count; call += 1) {
      nowMs += everyMs;
      const sinceMs = nowMs - tookMs;
      const kind = outcome as Outcome;
      told.push(made.record({ method, deadlineMs: sinceMs + leftMs }, sinceMs, nowMs, kind));
    }
    return told;
  };
  return {
    made,
    calls,
    late: () => made.isLate(nowMs),
    now: () => nowMs,
    pass: (ms: number) => (nowMs += ms),
  };
}

describe("lateness", () => {
  it("knows nothing before answers of a method have come", () => {
    const { made, calls, late } = lateness();
    calls(100, 50, 50);
    expect([made.usualMs("m"), late(), made.takeHeldUp()]).toEqual([undefined, false, 0]);
    calls(32, 20, 1_000);
    expect(made.usualMs("m")).toBe(20);
    expect(made.usualMs("other")).toBeUndefined();
  });

  it("sees calls that ran out of a time that usually does, and forgets them within two seconds", () => {
    const { made, calls, late, pass } = lateness();
    calls(64, 20, 200);
    calls(20, 200, 200);
    expect(late()).toBe(true);
    expect(made.takeHeldUp()).toBeGreaterThan(0.2);
    expect(made.takeHeldUp()).toBe(0);
    pass(2_000);
    expect(late()).toBe(false);
  });

  it("tells which share of the calls took longer than half as long again as usual for their method", () => {
    const { made, calls } = lateness();
    calls(64, 20, 2_000);
    calls(64, 1_000, 5_000, { method: "poll" });
    expect(made.takeSlowed()).toBe(0);
    calls(10, 30, 2_000);
    calls(20, 1_400, 5_000, { method: "poll" });
    calls(10, 31, 2_000);
    expect(made.takeSlowed()).toBe(0.25);
    expect(made.takeSlowed()).toBe(0);
  });

  it("is not impressed by callers that give less time than calls need", () => {
    const { made, calls, late } = lateness();
    calls(64, 20, 2_000);
    made.takeHeldUp();
    expect(calls(500, 12, 12)).not.toContain(true);
    expect([late(), made.takeHeldUp()]).toEqual([false, 0]);
    // One of them that was served in time after all is an answer like any other.
    expect(calls(1, 20, 25)).toEqual([true]);
  });

  it("measures each method by itself", () => {
    const { made, calls, late } = lateness();
    calls(64, 5, 100, { method: "quick" });
    calls(64, 600, 1_000, { method: "slow" });
    made.takeHeldUp();
    calls(100, 600, 1_000, { method: "slow" });
    calls(100, 5, 100, { method: "quick" });
    expect([late(), made.takeHeldUp()]).toEqual([false, 0]);
  });

  it("takes calls with half of their time left for calls in time, and few late ones for chance", () => {
    const { made, calls, late } = lateness();
    calls(64, 20, 2_000);
    made.takeHeldUp();
    calls(300, 900, 2_000);
    expect(made.takeHeldUp()).toBe(0);
    calls(2, 2_000, 2_000);
    expect(late()).toBe(false);
  });

  it("takes calls without a deadline for late when they take a second and ten times what is usual", () => {
    const { calls, late } = lateness();
    calls(64, 20, Number.POSITIVE_INFINITY);
    calls(50, 900, Number.POSITIVE_INFINITY);
    expect(late()).toBe(false);
    calls(50, 1_100, Number.POSITIVE_INFINITY);
    expect(late()).toBe(true);
  });

  it("takes the slow answers of a method that does two things for usual", () => {
    const { made, calls, late } = lateness();
    const mixed = (rounds: number, leftMs: number) => {
      for (let round = 0; round < rounds; round += 1) {
        calls(5, 2, leftMs);
        calls(1, 600, leftMs);
      }
    };
    mixed(20, 1_000);
    made.takeHeldUp();
    mixed(100, 1_000);
    mixed(100, 700);
    expect([made.takeHeldUp(), late()]).toEqual([0, false]);
    calls(30, 1_000, 1_000);
    expect(late()).toBe(true);
  });

  it("forgets slow answers that come no more", () => {
    const { made, calls } = lateness();
    calls(1, 900, 1_000);
    calls(31, 2, 1_000);
    calls(32 * 40, 2, 1_000);
    made.takeHeldUp();
    calls(20, 600, 1_000);
    expect(made.takeHeldUp()).toBe(1);
  });

  it.each([
    ["half of its caller's time, where that is more than usual", 100, 50],
    ["half as long again as usual, where its caller gives less", 40, 30],
    ["a second without a deadline", Number.POSITIVE_INFINITY, 1_000],
  ])("a call is held up from beyond %s", (_what, leftMs, allowedMs) => {
    const { made, calls } = lateness();
    calls(32, 20, 1_000);
    made.takeHeldUp();
    expect(calls(9, allowedMs, leftMs)).not.toContain(false);
    expect(calls(1, allowedMs + 1, leftMs)).toEqual([true]);
    expect(made.takeHeldUp()).toBe(0.1);
  });

  it("a call without a deadline is held up from beyond ten times what is usual, and by a fifth beyond slow ones", () => {
    for (const [slowMs, allowedMs] of [
      [200, 2_000],
      [5_000, 6_000],
    ] as const) {
      const { made, calls } = lateness();
      calls(31, 200, Number.POSITIVE_INFINITY);
      calls(1, slowMs, Number.POSITIVE_INFINITY);
      calls(1, allowedMs, Number.POSITIVE_INFINITY);
      expect(made.takeHeldUp()).toBe(0);
      calls(1, allowedMs + 1, Number.POSITIVE_INFINITY);
      expect(made.takeHeldUp()).toBe(1);
    }
  });

  it("a call with less time than such calls need is evidence only where it is served all the same", () => {
    const { calls } = lateness();
    calls(31, 20, 1_000);
    calls(1, 500, 1_000);
    // A fifth more than the slowest.
    expect(calls(1, 599, 599)).toEqual([false]);
    expect(calls(1, 600, 600)).toEqual([true]);
    expect(calls(1, 100, 500)).toEqual([true]);
    expect(calls(1, 10, 500, { outcome: "ignored" })).toEqual([false]);
  });

  it("is there from three late calls on, and from a twentieth of all", () => {
    const { calls, late } = lateness();
    calls(32, 20, 200);
    for (const [count, expected] of [
      [2, false],
      [1, true],
    ] as const) {
      calls(count, 200, 200, { everyMs: 1 });
      expect(late()).toBe(expected);
    }
    calls(57, 20, 200, { everyMs: 1 });
    expect(late()).toBe(true);
    calls(1, 20, 200, { everyMs: 1 });
    expect(late()).toBe(false);
  });

  it("is there for one to two seconds, and no longer", () => {
    const { calls, late, pass } = lateness();
    calls(32, 20, 200);
    calls(3, 200, 200, { everyMs: 0 });
    expect(late()).toBe(true);
    for (const [ms, expected] of [
      [1_000, true],
      [999, true],
      [1, false],
    ] as const) {
      pass(ms);
      expect(late()).toBe(expected);
    }
  });

  it("begins anew after two seconds without a call", () => {
    const { made, calls, late, now, pass } = lateness();
    calls(32, 20, 200);
    calls(10, 200, 200);
    pass(2_000);
    calls(2, 200, 200, { everyMs: 0 });
    expect([late(), made.ranOut(now())]).toEqual([false, false]);
    calls(1, 200, 200, { everyMs: 0 });
    expect([late(), made.ranOut(now())]).toEqual([true, true]);
    calls(57, 20, 200, { everyMs: 0 });
    // Three of sixty are one in twenty.
    expect([late(), made.ranOut(now())]).toEqual([true, false]);
  });

  it("is not there for calls that are held up and served in time", () => {
    const { made, calls, late } = lateness();
    calls(32, 20, 200);
    made.takeHeldUp();
    calls(20, 150, 200);
    expect([made.takeHeldUp(), late()]).toEqual([1, false]);
  });

  it("follows slower calls ten times more slowly while calls are late", () => {
    const { made, calls } = lateness();
    calls(32, 20, 200);
    calls(3, 200, 200);
    calls(32, 40, 5_000);
    expect(made.usualMs("m")).toBeCloseTo(20 + 20 * (1 - Math.exp(-350 / 3_000_000)), 5);
  });

  it("learns from 32 answers at a time, and takes the median for usual", () => {
    const { made, calls } = lateness();
    calls(15, 100, 5_000);
    calls(16, 20, 5_000);
    expect(made.usualMs("m")).toBeUndefined();
    calls(1, 100, 5_000);
    expect(made.usualMs("m")).toBe(100);
    calls(31, 5, 5_000);
    expect(made.usualMs("m")).toBe(100);
    calls(1, 5, 5_000);
    expect(made.usualMs("m")).toBe(5);
    calls(15, 100, 5_000);
    calls(17, 3, 5_000);
    expect(made.usualMs("m")).toBe(3);
  });

  it("follows slower calls, and slower ones among them, with a time constant of five minutes", () => {
    const { made, calls, pass } = lateness();
    calls(32, 20, 5_000);
    pass(150_000 - 320);
    calls(31, 40, 5_000);
    calls(1, 500, 5_000);
    const share = 1 - Math.exp(-0.5);
    expect(made.usualMs("m")).toBeCloseTo(20 + 20 * share);
    // A fifth more than its slow calls take.
    const neededMs = 1.2 * (20 + 480 * share);
    expect(calls(1, neededMs - 1, neededMs - 1)).toEqual([false]);
    expect(calls(1, neededMs + 1, neededMs + 1)).toEqual([true]);
  });

  it("says that most calls ran out of time by those that had one", () => {
    const { made, calls, now } = lateness();
    calls(64, 20, 200);
    calls(20, 200, 200);
    expect([made.isLate(now()), made.ranOut(now())]).toEqual([true, false]);
    calls(100, 200, 200);
    expect(made.ranOut(now())).toBe(true);
    calls(400, 2_000, Number.POSITIVE_INFINITY);
    expect([made.isLate(now()), made.ranOut(now())]).toEqual([true, false]);
  });

  it("learns what is faster at once, and what is slower over minutes", () => {
    const { made, calls } = lateness();
    calls(32, 100, 5_000);
    calls(32, 20, 5_000);
    expect(made.usualMs("m")).toBe(20);
    calls(3_000, 100, 5_000);
    expect(made.usualMs("m")).toBeLessThan(30);
    calls(60_000, 100, 5_000, { everyMs: 15 });
    expect(made.usualMs("m")).toBeGreaterThan(90);
  });
});
