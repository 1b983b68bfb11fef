import { describe, expect, it } from "vitest";
import { isRefusal } from "../../../src/core/permit.js";
import { Breaker } from "../../../src/policies/breaker/breaker.js";
import { resolveBreakerOptions } from "../../../src/policies/breaker/options.js";
import { fakeClock } from "../../core/fake-clock.js";
import { setup } from "./setup.js";

const nervous = resolveBreakerOptions({ consecutiveFailures: 1, probes: 1, openJitter: 0 });

describe("the events of a breaker", () => {
  it("say how many probes closed it", () => {
    const details = [1, 2].map((probes) => {
      const { clock, events, fail, succeed } = setup({ probes, successesToClose: probes });
      fail(5);
      clock.advance(60_000);
      succeed(probes);
      return events.at(-1)?.detail;
    });
    expect(details).toEqual(["1 probe succeeded", "2 probes succeeded"]);
  });

  it("tell each change, when and why", () => {
    const { breaker, clock, events, fail, succeed } = setup({
      openMs: 100,
      openFactor: 1,
      probes: 1,
    });
    const startMs = clock.now();
    fail(5);
    clock.advance(150);
    fail();
    clock.advance(100);
    succeed();
    const changes = events.map(({ from, to, atMs, reason }) => [from, to, atMs - startMs, reason]);
    expect(changes).toEqual([
      ["closed", "open", 0, "consecutive-failures"],
      ["open", "half-open", 150, "rest-over"],
      ["half-open", "open", 150, "probe-failed"],
      ["open", "half-open", 250, "rest-over"],
      ["half-open", "closed", 250, "probes-succeeded"],
    ]);
    expect(new Set(events.map((event) => event.type))).toEqual(new Set(["breaker.state"]));
    expect(events.map((event) => event.detail)).toEqual([
      "5 failures in a row",
      "the open period is over",
      "a probe failed",
      "the open period is over",
      "1 probe succeeded",
    ]);
    clock.advance(30);
    expect(breaker.snapshot()).toMatchObject({ state: "closed", forMs: 30 });
  });

  it("tell when the rate opened it", () => {
    const { events, fail, succeed } = setup({ minCalls: 2 });
    succeed();
    fail();
    expect(events.map((event) => event.reason)).toEqual(["failure-rate"]);
  });

  it("tell when slow calls opened it", () => {
    const { events, take } = setup({ minCalls: 2, slowMs: 10 });
    take(11);
    take(11);
    expect(events).toMatchObject([
      { reason: "slow-rate", detail: "2 of 2 calls took longer than 10 ms within 10000 ms" },
    ]);
  });

  it("are told after the change, so that whoever is told may ask", () => {
    const clock = fakeClock();
    const states: string[] = [];
    const told = () => states.push(breaker.state);
    const breaker = new Breaker(nervous, clock, told);
    const admission = breaker.acquire();
    if (!isRefusal(admission)) admission.settle("failure");
    clock.advance(5_000);
    breaker.check();
    expect(states).toEqual(["open", "half-open"]);
  });

  it("cannot break the breaker: what an observer throws is reported", () => {
    const clock = fakeClock();
    const broken = new Error("broken observer");
    const reported: unknown[] = [];
    const breaker = new Breaker(
      nervous,
      clock,
      () => {
        throw broken;
      },
      (error, where) => reported.push(error, where),
    );
    const admission = breaker.acquire();
    if (!isRefusal(admission)) admission.settle("failure");
    expect(breaker.state).toBe("open");
    clock.advance(5_000);
    expect(isRefusal(breaker.acquire())).toBe(false);
    expect(reported).toEqual([broken, "breaker.onEvent", broken, "breaker.onEvent"]);
  });

  it("reach a call that admits within the telling without giving a place twice", () => {
    const clock = fakeClock();
    const breaker = new Breaker(nervous, clock, (event) => {
      if (event.to === "half-open") breaker.acquire();
    });
    const admission = breaker.acquire();
    if (!isRefusal(admission)) admission.settle("failure");
    clock.advance(5_000);
    expect(breaker.acquire()).toMatchObject({ reason: "BREAKER_PROBING" });
  });
});

describe("the snapshot of a breaker", () => {
  it("tells what the state is made of", () => {
    const { breaker, clock, admit, fail, succeed } = setup();
    succeed(2);
    fail();
    clock.advance(100);
    expect(breaker.snapshot()).toEqual({
      state: "closed",
      forMs: 100,
      openedInARow: 0,
      rampLeftMs: 0,
      calls: 3,
      failures: 1,
      slow: 0,
      consecutiveFailures: 1,
    });
    fail(4);
    clock.advance(2_000);
    expect(breaker.snapshot()).toEqual({
      state: "open",
      forMs: 2_000,
      openedInARow: 1,
      retryAfterMs: 3_000,
      detail: "5 failures in a row",
    });
    clock.advance(3_000);
    succeed();
    admit();
    expect(breaker.snapshot()).toEqual({
      state: "half-open",
      forMs: 0,
      openedInARow: 1,
      probesOut: 1,
      succeeded: 1,
    });
  });
});
