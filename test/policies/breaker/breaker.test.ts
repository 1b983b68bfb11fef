import { describe, expect, it } from "vitest";
import { isRefusal, type Outcome } from "../../../src/core/permit.js";
import { Breaker } from "../../../src/policies/breaker/breaker.js";
import { resolveBreakerOptions } from "../../../src/policies/breaker/options.js";
import { opened, setup } from "./setup.js";

describe("a breaker that goes by no time", () => {
  it("reads no clock for the calls that it admits while it is closed", () => {
    let readings = 0;
    const clock = {
      now: () => {
        readings += 1;
        return 0;
      },
    };
    const readingsOf = (inFlightMs: number | false) => {
      const breaker = new Breaker(resolveBreakerOptions({ slowMs: false, inFlightMs }), clock);
      readings = 0;
      breaker.check();
      breaker.acquire();
      return readings;
    };
    expect(readingsOf(false)).toBe(0);
    expect(readingsOf(10_000)).toBe(2);
  });

  it("ends no open period by a connection while it is closed", () => {
    const { breaker } = setup();
    expect([breaker.connectivity(false), breaker.connectivity(true)]).toEqual([false, false]);
  });
});

describe("a closed breaker", () => {
  it("opens after five failures in a row unless told otherwise", () => {
    const { breaker, fail } = setup();
    fail(4);
    expect(breaker.state).toBe("closed");
    fail();
    expect(breaker.state).toBe("open");
  });

  it("counts failures in a row anew after a success", () => {
    const { breaker, fail, succeed } = setup();
    fail(4);
    succeed();
    fail(4);
    expect(breaker.state).toBe("closed");
    fail();
    expect(breaker.state).toBe("open");
  });

  it("counts failures in a row however far apart they are", () => {
    const { breaker, clock, fail } = setup();
    for (let call = 0; call < 5; call += 1) {
      clock.advance(3_600_000);
      fail();
    }
    expect(breaker.state).toBe("open");
  });

  it("takes an ignored call for no evidence at all", () => {
    const { breaker, fail, ignore } = setup({ minCalls: 5, failureRate: 1 });
    fail(4);
    ignore(100);
    expect(breaker.snapshot()).toMatchObject({ calls: 4, failures: 4, consecutiveFailures: 4 });
    fail();
    expect(breaker.state).toBe("open");
  });

  it("opens when half of twenty calls failed", () => {
    const { breaker, fail, succeed } = setup();
    for (let pair = 0; pair < 9; pair += 1) {
      succeed();
      fail();
    }
    succeed();
    expect(breaker.state).toBe("closed");
    fail();
    expect(breaker.state).toBe("open");
  });

  it("leaves the rate out of account below the least number of calls", () => {
    const { breaker, fail } = setup({ consecutiveFailures: false, minCalls: 20 });
    fail(19);
    expect(breaker.state).toBe("closed");
    fail();
    expect(breaker.state).toBe("open");
  });

  it("does not open at a success that completes the least number of calls", () => {
    const { breaker, fail, succeed } = setup({ consecutiveFailures: false, minCalls: 20 });
    fail(19);
    succeed();
    expect(breaker.state).toBe("closed");
    fail();
    expect(breaker.state).toBe("open");
  });

  it("compares the rate exactly: 7 of 100 is a rate of 0.07", () => {
    const { breaker, fail, succeed } = setup({ failureRate: 0.07, minCalls: 100 });
    fail(3);
    succeed(93);
    fail(3);
    expect(breaker.state).toBe("closed");
    fail();
    expect(breaker.state).toBe("open");
  });

  it("lets the rate forget calls that are older than the window", () => {
    const { breaker, clock, fail } = setup({ consecutiveFailures: false, minCalls: 4 });
    fail(3);
    clock.advance(10_000);
    fail(3);
    expect(breaker.state).toBe("closed");
    clock.advance(8_000);
    fail();
    expect(breaker.state).toBe("open");
  });

  it("forgets a tenth of the window at a time", () => {
    const { breaker, clock, fail } = setup({ consecutiveFailures: false, minCalls: 4 });
    clock.advance(11_000 - (clock.now() % 10_000)); // Now a slice of 1 s begins, and not one of 2 s.
    fail();
    clock.advance(9_999);
    expect(breaker.snapshot()).toMatchObject({ calls: 1 });
    clock.advance(1);
    expect(breaker.snapshot()).toMatchObject({ calls: 0 });
  });

  it("keeps to failures in a row when the rate is off", () => {
    const { breaker, fail, succeed } = setup({ failureRate: false });
    for (let round = 0; round < 20; round += 1) {
      fail(4);
      succeed();
    }
    expect(breaker.state).toBe("closed");
  });

  it("settles a permit once", () => {
    const { breaker, admit, fail } = setup();
    fail(3);
    const permit = admit();
    permit.settle("failure");
    permit.settle("failure");
    expect(breaker.state).toBe("closed");
  });
});

describe("an open breaker", () => {
  it("refuses calls and says for how long, and why", () => {
    const { breaker, clock } = opened();
    clock.advance(1_500);
    const refusal = {
      kind: "refusal",
      reason: "BREAKER_OPEN",
      retryAfterMs: 3_500,
      detail: "5 failures in a row",
    };
    expect(breaker.check()).toEqual(refusal);
    expect(breaker.acquire()).toEqual(refusal);
  });

  it("says which share of the calls has failed when that opened it", () => {
    const { breaker, fail, succeed } = setup({ minCalls: 6 });
    succeed(3);
    fail(3);
    expect(breaker.check()?.detail).toBe("3 of 6 calls failed within 10000 ms");
  });

  it("is half-open as soon as the open period is over, without a timer", () => {
    const { breaker, clock } = opened();
    clock.advance(4_999);
    expect(breaker.state).toBe("open");
    clock.advance(1);
    expect(breaker.state).toBe("half-open");
    expect(breaker.check()).toBeUndefined();
  });

  it("lets a call through after any silence, whichever question comes first", () => {
    for (const silenceMs of [5_000, 60_000, 1e12]) {
      const { breaker, clock } = opened();
      clock.advance(silenceMs);
      expect(isRefusal(breaker.acquire())).toBe(false);
    }
  });

  it.each<Outcome>(["success", "failure", "ignored"])(
    "takes no notice of a late %s of a call from before",
    (outcome) => {
      const { breaker, clock, admit, fail } = setup();
      const late = [admit(), admit(), admit(), admit()];
      fail(5);
      late[0]?.settle(outcome);
      clock.advance(4_000);
      late[1]?.settle(outcome);
      expect(breaker.check()?.retryAfterMs).toBe(1_000);
      clock.advance(1_000);
      late[2]?.settle(outcome);
      expect(breaker.snapshot()).toMatchObject({ state: "half-open", probesOut: 0, succeeded: 0 });
      late[3]?.settle(outcome);
      expect(breaker.snapshot()).toMatchObject({ state: "half-open", probesOut: 0, succeeded: 0 });
    },
  );
});
