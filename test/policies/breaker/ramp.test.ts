import { describe, expect, it } from "vitest";
import { isRefusal } from "../../../src/core/permit.js";
import type { BreakerCall } from "../../../src/policies/breaker/breaker.js";
import { recovered } from "./setup.js";

const critical: BreakerCall = { timed: true, critical: true };

/** One that has just closed, with as many calls under way as it never refuses. */
function busy(options: Parameters<typeof recovered>[0] = {}) {
  const parts = recovered(options);
  const permits = Array.from({ length: 3 }, () => parts.admit());
  const passes = (chance: number, call?: BreakerCall) => {
    parts.chance.is = chance;
    const admission = parts.breaker.acquire(call);
    if (!isRefusal(admission)) admission.settle("ignored");
    return !isRefusal(admission);
  };
  return { ...parts, permits, passes };
}

describe("a breaker that has just closed", () => {
  it("lets a quarter of the calls through at first, and then more and more", () => {
    const { clock, passes } = busy();
    expect(passes(0.24)).toBe(true);
    expect(passes(0.25)).toBe(false);
    clock.advance(2_500);
    expect(passes(0.62)).toBe(true);
    expect(passes(0.625)).toBe(false);
    clock.advance(2_499);
    expect(passes(0.9999)).toBe(false);
    clock.advance(1);
    expect(passes(0.9999)).toBe(true);
  });

  it("says how many pass, and when all do", () => {
    const { breaker, chance, clock } = busy();
    chance.is = 0.99;
    clock.advance(1_000);
    expect(breaker.acquire()).toEqual({
      kind: "refusal",
      reason: "BREAKER_RAMPING",
      retryAfterMs: 4_000,
      detail: "40 % of the calls pass",
    });
    expect(breaker.snapshot()).toMatchObject({ state: "closed", rampLeftMs: 4_000 });
  });

  it("never refuses a call while as few are under way as there were probes", () => {
    const { passes, permits } = busy();
    expect(passes(0.99)).toBe(false);
    permits[0]?.settle("ignored");
    expect(passes(0.99)).toBe(true);
  });

  it("lets critical calls through", () => {
    const { passes } = busy();
    expect(passes(0.99, critical)).toBe(true);
  });

  it("does not foretell what is a matter of chance", () => {
    const { breaker, passes } = busy();
    expect(passes(0.99)).toBe(false);
    expect(breaker.check()).toBeUndefined();
  });

  it("counts what it lets through, and opens as ever", () => {
    const { breaker, permits, chance, fail } = busy();
    chance.is = 0;
    for (const permit of permits) permit.settle("failure");
    fail(4);
    expect(breaker.state).toBe("open");
  });

  it("lets all through at once without a ramp", () => {
    const { passes } = busy({ rampMs: false });
    expect(passes(0.99)).toBe(true);
  });

  it("has no ramp when it has not been open", () => {
    const { breaker } = recovered();
    breaker.force("closed");
    breaker.force(undefined);
    expect(breaker.snapshot()).toMatchObject({ state: "closed", rampLeftMs: 0 });
  });
});
