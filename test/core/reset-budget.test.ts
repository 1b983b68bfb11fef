import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../src/core/options.js";
import type { Priority } from "../../src/core/priority.js";
import {
  ResetBudget,
  ResetBudgets,
  type Resettable,
  resolveResetOptions,
  sharedResetBudgets,
} from "../../src/core/reset-budget.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";

const options = resolveResetOptions({ burst: 8, ratePerSecond: 2 });

function budgets(clock = new VirtualClock()) {
  const of = new ResetBudgets(options, clock);
  const caused = (times: number, peer = "10.0.0.1:1", target = "t") => {
    for (let i = 0; i < times; i += 1) of.ended(target, {}, peer);
  };
  return { clock, of, caused };
}

describe("the options of resets", () => {
  it("stay under what Node's server bears, by default", () => {
    expect(resolveResetOptions()).toEqual({ burst: 800, ratePerSecond: 26 });
  });

  it.each([
    { burst: 4, ratePerSecond: 0.1 },
    { burst: 1_000_000, ratePerSecond: 1_000_000 },
  ])("may be %o", (given) => {
    expect(resolveResetOptions(given)).toEqual(given);
  });

  it.each([
    { burst: 3 },
    { burst: 4.5 },
    { burst: 1_000_001 },
    { ratePerSecond: 0 },
    { ratePerSecond: 1_000_001 },
    { ratePerSecond: Number.NaN },
    { rate: 1 },
  ])("refuse %o", (given) => {
    expect(() => resolveResetOptions(given)).toThrow(InvalidOptionError);
  });
});

describe("the resets that a connection bears", () => {
  it("are there in full where nothing is known", () => {
    const { of } = budgets();
    expect(of.low("t", "loser")).toBe(false);
    const subject: Resettable = {};
    expect(of.take("t", "loser", subject)).toBe(true);
    expect(subject.resetFrom).toBeUndefined();
  });

  it("are kept for timeouts and callers once half is used, and for callers once three quarters are", () => {
    const { of, caused } = budgets();
    caused(4);
    expect([of.low("t", "loser"), of.low("t", "timeout")]).toEqual([true, false]);
    expect(of.take("t", "loser", {})).toBe(false);
    expect(of.take("t", "timeout", {})).toBe(true);
    caused(1);
    expect(of.take("t", "timeout", {})).toBe(false);
  });

  it("come back with time, up to the burst", () => {
    const { clock, of, caused } = budgets();
    caused(100);
    clock.advance(2_499);
    expect(of.low("t", "loser")).toBe(true);
    expect(of.take("t", "loser", {})).toBe(false);
    clock.advance(1);
    expect(of.low("t", "loser")).toBe(false);
    clock.advance(60_000);
    caused(5);
    expect(of.low("t", "loser")).toBe(true);
  });

  it.each([
    [0, 0],
    [2.5, 0],
    [3, 0],
    [4, 500],
    [8, 2_500],
  ])("once %d of 8 are used, are there for a hedge that lost after %d ms", (used, waitMs) => {
    const budget = new ResetBudget(options, 0);
    for (let reset = 0; reset < Math.ceil(used); reset += 1) budget.count(0);
    const nowMs = (Math.ceil(used) - used) * 500;
    expect(budget.waitMs("loser", nowMs)).toBe(waitMs);
  });

  it("go by the address that has least left", () => {
    const { of, caused } = budgets();
    caused(1, "10.0.0.1:1");
    caused(8, "10.0.0.2:1");
    expect(of.low("t", "loser")).toBe(true);
    expect(of.low("another", "loser")).toBe(false);
  });

  it("are taken once, whichever address the attempt had", () => {
    const { of, caused } = budgets();
    caused(1, "10.0.0.1:1");
    const one: Resettable = {};
    expect(of.take("t", "loser", one)).toBe(true);
    of.ended("t", one, "10.0.0.1:1");
    const two: Resettable = {};
    expect(of.take("t", "loser", two)).toBe(true);
    // It was another connection's.
    of.ended("t", two, "10.0.0.2:1");
    expect(two.resetFrom).toBeUndefined();
    // 8 - 2 are left for the first address, and a loser may take down to 4.
    expect([of.take("t", "loser", {}), of.take("t", "loser", {})]).toEqual([true, true]);
    expect(of.take("t", "loser", {})).toBe(false);
  });

  it("are not counted again when the attempt ends long after it was cancelled", () => {
    const { clock, of, caused } = budgets();
    caused(1);
    const late: Resettable = {};
    expect(of.take("t", "loser", late)).toBe(true);
    clock.advance(60_000);
    of.ended("t", late, "10.0.0.1:1");
    const taken = [1, 2, 3, 4, 5].map(() => of.take("t", "loser", {}));
    expect(taken).toEqual([true, true, true, true, false]);
  });

  it("are given back by one that ended without a reset", () => {
    const { of, caused } = budgets();
    caused(3);
    for (let i = 0; i < 10; i += 1) {
      const subject: Resettable = {};
      expect(of.take("t", "loser", subject)).toBe(true);
      of.ended("t", subject, undefined);
    }
  });

  it("forget addresses that have all again", () => {
    const { clock, of, caused } = budgets();
    for (let i = 0; i < 50; i += 1) {
      caused(1, `10.0.0.${i}:1`, `target ${i}`);
      clock.advance(1_000);
    }
    expect(of.size).toBe(1);
    caused(1, "10.0.1.1:1");
    caused(1, "10.0.1.2:1");
    expect(of.size).toBe(2);
  });

  it("are shared by whoever has the same clock and limits", () => {
    const clock = new VirtualClock();
    const one = sharedResetBudgets(options, clock);
    expect(sharedResetBudgets(resolveResetOptions({ burst: 8, ratePerSecond: 2 }), clock)).toBe(
      one,
    );
    expect(sharedResetBudgets(resolveResetOptions(), clock)).not.toBe(one);
    expect(sharedResetBudgets(options, new VirtualClock())).not.toBe(one);
  });
});

describe("what waits for a reset", () => {
  it("gets its turn as resets come back, one after the other", () => {
    const { clock, of, caused } = budgets();
    caused(4);
    const served: number[] = [];
    for (const number of [1, 2, 3]) of.later("t", "loser", {}, () => served.push(number));
    // No process is kept alive by that.
    expect(clock.pending).toEqual({ refs: 0, unrefs: 1 });
    clock.advance(499);
    expect(served).toEqual([]);
    clock.advance(1);
    expect(served).toEqual([1]);
    clock.advance(500);
    expect(served).toEqual([1, 2]);
    clock.advance(500);
    expect(served).toEqual([1, 2, 3]);
    expect(clock.pending.refs + clock.pending.unrefs).toBe(0);
  });

  it("is served at once where nothing is known", () => {
    const { clock, of } = budgets();
    const served: number[] = [];
    of.later("t", "loser", {}, () => served.push(1));
    expect(served).toEqual([]);
    clock.advance(0);
    expect(served).toEqual([1]);
  });

  it("is not served when it no longer waits, and leaves no timer", () => {
    const { clock, of, caused } = budgets();
    caused(4);
    const served: number[] = [];
    const stops = [1, 2].map((number) => of.later("t", "loser", {}, () => served.push(number)));
    stops[0]?.();
    stops[0]?.();
    clock.advance(500);
    expect(served).toEqual([2]);
    const stop = of.later("t", "timeout", {}, () => served.push(3));
    stop();
    expect(clock.pending.refs + clock.pending.unrefs).toBe(0);
    of.later("t", "timeout", {}, () => served.push(4));
    clock.advance(500);
    expect(served).toEqual([2, 4]);
  });

  it("lets timeouts pass losers", () => {
    const { clock, of, caused } = budgets();
    caused(8);
    const served: string[] = [];
    of.later("t", "loser", {}, () => served.push("loser"));
    of.later("t", "timeout", {}, () => served.push("timeout"));
    clock.advance(1_500);
    expect(served).toEqual(["timeout"]);
  });

  it("is served by priority, and by age inside of one", () => {
    const { clock, of, caused } = budgets();
    caused(4);
    const served: string[] = [];
    const wait = (name: string, priority?: Priority) =>
      of.later("t", "loser", {}, () => served.push(name), priority);
    wait("low", "low");
    wait("none");
    wait("normal", "normal");
    const left = wait("high", "high");
    wait("critical", "critical");
    left();
    clock.advance(4 * 500);
    expect(served).toEqual(["critical", "none", "normal", "low"]);
    expect(clock.pending.refs + clock.pending.unrefs).toBe(0);
  });
});
