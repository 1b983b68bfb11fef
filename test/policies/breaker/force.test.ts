import { describe, expect, it } from "vitest";
import { isRefusal, type Outcome } from "../../../src/core/permit.js";
import { opened, setup } from "./setup.js";

describe("a breaker that was forced open", () => {
  it("refuses every call, for however long, and does not say when to come back", () => {
    const { breaker, clock } = setup();
    breaker.force("open");
    clock.advance(3_600_000);
    expect(breaker.check()).toEqual({
      kind: "refusal",
      reason: "BREAKER_OPEN",
      detail: "opened by hand",
    });
    expect(breaker.acquire()).toEqual(breaker.check());
  });

  it("begins with probes when it is released", () => {
    const { breaker, succeed } = setup();
    breaker.force("open");
    breaker.force(undefined);
    expect(breaker.state).toBe("half-open");
    succeed(3);
    expect(breaker.state).toBe("closed");
  });

  it("starts with the first open period again", () => {
    const { breaker, clock, fail } = opened({ openJitter: 0 });
    clock.advance(5_000);
    fail();
    breaker.force("open");
    breaker.force(undefined);
    fail();
    expect(breaker.check()?.retryAfterMs).toBe(5_000);
  });
});

describe("a breaker that was forced closed", () => {
  it("lets every call through, and counts", () => {
    const { breaker, fail } = opened();
    breaker.force("closed");
    fail(100);
    expect(breaker.snapshot()).toMatchObject({
      state: "forced-closed",
      calls: 100,
      failures: 100,
      consecutiveFailures: 100,
    });
  });

  it("begins to count anew when it is released", () => {
    const { breaker, fail } = setup();
    breaker.force("closed");
    fail(100);
    breaker.force(undefined);
    expect(breaker.snapshot()).toMatchObject({ state: "closed", calls: 0 });
    fail(4);
    expect(breaker.state).toBe("closed");
    fail();
    expect(breaker.state).toBe("open");
  });
});

describe("a hand on a breaker", () => {
  it("is told of as any other change, and once", () => {
    const { breaker, events } = setup();
    for (const to of ["open", "open", "closed", undefined, undefined] as const) breaker.force(to);
    expect(events.map(({ from, to, reason }) => [from, to, reason])).toEqual([
      ["closed", "forced-open", "forced"],
      ["forced-open", "forced-closed", "forced"],
      ["forced-closed", "closed", "released"],
    ]);
  });

  it("does nothing when it lets go of what it does not hold", () => {
    const { breaker, events } = opened();
    breaker.force(undefined);
    expect(breaker.state).toBe("open");
    expect(events).toHaveLength(1);
  });

  it.each<Outcome>(["success", "failure", "ignored"])(
    "makes a %s of a call from before count for nothing",
    (outcome) => {
      const { breaker, admit } = setup({ consecutiveFailures: 1 });
      const early = admit();
      breaker.force("open");
      breaker.force(undefined);
      early.settle(outcome);
      expect(breaker.snapshot()).toMatchObject({ state: "half-open", probesOut: 0, succeeded: 0 });
      expect(isRefusal(breaker.acquire())).toBe(false);
    },
  );
});
