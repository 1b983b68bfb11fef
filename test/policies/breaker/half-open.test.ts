import { describe, expect, it } from "vitest";
import { isRefusal, type Outcome } from "../../../src/core/permit.js";
import { rested, setup, stream } from "./setup.js";

it("a breaker whose probes fail on several servers rests for the longest that one of them asked for", () => {
  for (const waits of [
    [19_000, 22_000],
    [22_000, 19_000],
  ]) {
    const { breaker, clock } = setup({ openJitter: 0 });
    const acquire = () => {
      const admission = breaker.acquire();
      if (isRefusal(admission)) throw new Error(admission.detail);
      return admission;
    };
    for (const peer of ["a", "b", "a", "b", "a"]) acquire().settle("failure", undefined, peer);
    clock.advance(5_000);
    const probes = waits.map((retryAfterMs) => ({ probe: acquire(), retryAfterMs }));
    for (const { probe, retryAfterMs } of probes) probe.settle("failure", { retryAfterMs }, "a");
    expect(breaker.check()?.retryAfterMs).toBe(22_000);
  }
});

describe("a half-open breaker", () => {
  it("has only so many probes out at once", () => {
    const { breaker, clock, admit } = rested();
    admit();
    clock.advance(100);
    admit();
    admit();
    clock.advance(200);
    const refusal = {
      kind: "refusal",
      reason: "BREAKER_PROBING",
      retryAfterMs: 9_700,
      detail: "3 of 3 probes are running",
    };
    expect(breaker.check()).toEqual(refusal);
    expect(breaker.acquire()).toEqual(refusal);
  });

  it("takes no place for a check", () => {
    const { breaker } = rested();
    for (let asked = 0; asked < 10; asked += 1) expect(breaker.check()).toBeUndefined();
    expect(breaker.snapshot()).toMatchObject({ probesOut: 0 });
  });

  it("closes when as many probes have succeeded as may be out, unless told otherwise", () => {
    const { breaker, succeed } = rested();
    succeed(2);
    expect(breaker.state).toBe("half-open");
    succeed();
    expect(breaker.state).toBe("closed");
  });

  it("closes when so many probes have succeeded as it was told, one after the other", () => {
    const { breaker, succeed } = rested({ probes: 1, successesToClose: 4 });
    succeed(3);
    expect(breaker.state).toBe("half-open");
    succeed();
    expect(breaker.state).toBe("closed");
  });

  it("opens when the other side sheds a probe", () => {
    const { breaker, fail } = rested();
    fail(1, { unserved: "shed" });
    expect(breaker.state).toBe("open");
  });

  it("opens at a probe that was slow, where slow calls could have opened it", () => {
    const { breaker, take } = rested({ slowMs: 100 });
    take(100);
    expect(breaker.state).toBe("half-open");
    take(101, "success", stream);
    expect(breaker.state).toBe("half-open");
    take(101);
    expect(breaker.check()?.detail).toBe("a probe took longer than 100 ms");
  });

  it("opens at a probe that is under way for too long, before it ends", () => {
    const { breaker, clock, admit } = rested({ inFlightMs: 1_000 });
    admit(stream);
    admit();
    clock.advance(999);
    expect(breaker.check()).toBeUndefined();
    clock.advance(1);
    expect(breaker.check()?.detail).toBe("a probe did not end within 1000 ms");
  });

  it("takes the place of a probe back, and nothing more, that loses it before it is overdue", () => {
    const { breaker, clock, admit } = rested({ inFlightMs: 10_000 });
    admit();
    clock.advance(10_000);
    expect(breaker.snapshot()).toMatchObject({ state: "half-open", probesOut: 0 });
  });

  it("opens at the first failure, for a whole open period", () => {
    const { breaker, clock, succeed, fail } = rested();
    succeed(2);
    clock.advance(1_000);
    fail();
    expect(breaker.check()).toMatchObject({ reason: "BREAKER_OPEN", retryAfterMs: 10_000 });
  });

  it("begins to count successes anew after it has opened again", () => {
    const { breaker, clock, succeed, fail } = rested({ openFactor: 1 });
    succeed(2);
    fail();
    clock.advance(5_000);
    succeed(2);
    expect(breaker.state).toBe("half-open");
  });

  it("takes the place of an ignored probe back, and learns nothing from it", () => {
    const { breaker, ignore, succeed } = rested();
    succeed(2);
    ignore(100);
    expect(breaker.snapshot()).toMatchObject({ state: "half-open", probesOut: 0, succeeded: 2 });
  });

  it("takes the place of a probe back that never ends", () => {
    const { breaker, clock, admit } = rested();
    admit();
    clock.advance(4_000);
    admit();
    admit();
    clock.advance(5_999);
    expect(breaker.check()?.retryAfterMs).toBe(1);
    clock.advance(1);
    expect(breaker.check()).toBeUndefined();
    admit();
    expect(breaker.check()?.retryAfterMs).toBe(4_000);
  });

  it("takes all places back at once when all probes have taken too long", () => {
    const { breaker, clock, admit } = rested();
    for (let probe = 0; probe < 3; probe += 1) admit();
    clock.advance(10_000);
    expect(breaker.snapshot()).toMatchObject({ probesOut: 0 });
  });

  it.each<Outcome>(["success", "failure", "ignored"])(
    "takes no notice of a %s of a probe that has lost its place",
    (outcome) => {
      const { breaker, clock, admit } = rested({ probes: 1 });
      const lapsed = admit();
      clock.advance(10_000);
      admit();
      lapsed.settle(outcome);
      expect(breaker.snapshot()).toMatchObject({ state: "half-open", probesOut: 1, succeeded: 0 });
    },
  );

  it("takes no notice of a probe that has just lost its place, when nobody has asked since", () => {
    const { breaker, clock, admit } = rested();
    const lapsed = admit();
    clock.advance(10_000);
    lapsed.settle("failure");
    expect(breaker.state).toBe("half-open");
  });

  it("takes no notice of a probe of an earlier half-open time", () => {
    const { breaker, clock, admit, fail } = rested({ openFactor: 1 });
    const early = admit();
    fail();
    clock.advance(5_000);
    expect(breaker.state).toBe("half-open");
    early.settle("failure");
    expect(breaker.state).toBe("half-open");
  });

  it("knows nothing of the past once it has closed", () => {
    const { breaker, succeed } = rested();
    succeed(3);
    expect(breaker.snapshot()).toMatchObject({
      state: "closed",
      calls: 0,
      failures: 0,
      consecutiveFailures: 0,
    });
  });

  it("takes no notice, once closed, of a probe that is still out", () => {
    const { breaker, admit, succeed } = rested({ consecutiveFailures: 5 });
    const still = admit();
    succeed(3);
    still.settle("failure");
    expect(breaker.snapshot()).toMatchObject({ state: "closed", calls: 0 });
  });
});
