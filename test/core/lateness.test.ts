import { describe, expect, it } from "vitest";
import { Lateness } from "../../src/core/lateness.js";

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
      const kind = outcome as "success" | "failure";
      told.push(made.record({ method, deadlineMs: sinceMs + leftMs }, sinceMs, nowMs, kind));
    }
    return told;
  };
  return { made, calls, late: () => made.isLate(nowMs), pass: (ms: number) => (nowMs += ms) };
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
