import { describe, expect, it } from "vitest";
import {
  BudgetStore,
  RetryBudget,
  type RetryBudgetOptions,
  resolveRetryBudgetOptions,
} from "../../../src/policies/retry/budget.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { fakeClock } from "../../core/fake-clock.js";

function setup(options: RetryBudgetOptions = {}) {
  // At the start of a slice, so that ages in the tests are exact.
  const clock = fakeClock(1_000_000);
  const budget = new RetryBudget(resolveRetryBudgetOptions(options), clock);
  const times = (count: number, what: () => void) => {
    for (let done = 0; done < count; done += 1) what();
  };
  return {
    clock,
    budget,
    call: (count = 1) => times(count, () => budget.call()),
    succeed: (count = 1) => times(count, () => budget.success()),
    fail: (count = 1) => times(count, () => budget.failure()),
    /** How many of so many extra attempts are allowed. */
    withdraw: (count = 1) => {
      let allowed = 0;
      times(count, () => {
        if (budget.tryWithdraw() === undefined) allowed += 1;
      });
      return allowed;
    },
  };
}

describe("one event that failed many attempts", () => {
  it("takes one token for a lost connection, from all that were on it", () => {
    const { budget, clock } = setup();
    const startedAtMs = clock.now();
    clock.advance(10);
    for (let n = 0; n < 80; n += 1) budget.failure({ connectionLost: true, startedAtMs });
    expect(budget.snapshot().tokens?.left).toBe(99);
    clock.advance(10);
    budget.failure({ connectionLost: true, startedAtMs: clock.now() });
    expect(budget.snapshot().tokens?.left).toBe(98);
    // Started as that connection was lost, and so lost with it.
    const lostAtMs = clock.now();
    clock.advance(10);
    budget.failure({ connectionLost: true, startedAtMs: lostAtMs });
    expect(budget.snapshot().tokens?.left).toBe(98);
  });

  it("takes one token for a failed connect that is told from memory", () => {
    const { budget, clock, succeed } = setup();
    const told = { event: "refused at 1", startedAtMs: clock.now() };
    for (let n = 0; n < 80; n += 1) budget.failure(told);
    budget.failure({ ...told, event: "refused at 2" });
    expect(budget.snapshot().tokens?.left).toBe(98);
    succeed(10);
    budget.failure(told);
    expect(budget.snapshot().tokens?.left).toBe(98);
  });

  it("takes a token from each that the other side has answered", () => {
    const { budget, clock } = setup();
    for (let n = 0; n < 10; n += 1) budget.failure({ startedAtMs: clock.now() });
    expect(budget.snapshot().tokens?.left).toBe(90);
  });
});

describe("the ratio budget", () => {
  const ratioOnly = { maxTokens: false } as const;

  it("gives an idle client its reserve and no more", () => {
    const { withdraw } = setup(ratioOnly);
    expect(withdraw(100)).toBe(30);
  });

  it("gives one extra attempt for every 1 / ratio calls, on top of the reserve", () => {
    const { call, withdraw } = setup({ ...ratioOnly, minPerSecond: 0 });
    call(4);
    expect(withdraw()).toBe(0);
    call();
    expect(withdraw(2)).toBe(1);
    call(45);
    expect(withdraw(100)).toBe(9);
  });

  it.each([
    [0.29, 100, 29],
    [0.1, 30, 3],
    [1 / 3, 3, 1],
    [0.7, 10, 7],
    [1, 8, 8],
  ])("at a ratio of %d makes %i calls worth %i extra attempts", (ratio, calls, extras) => {
    const { call, withdraw } = setup({ ...ratioOnly, minPerSecond: 0, ratio });
    call(calls);
    expect(withdraw(calls + 1)).toBe(extras);
  });

  it("forgets calls after the window, not before", () => {
    const { clock, call, withdraw } = setup({ ...ratioOnly, minPerSecond: 0 });
    call(10);
    clock.advance(9_000);
    expect(withdraw()).toBe(1);
    clock.advance(1_000);
    expect(withdraw()).toBe(0);
  });

  it("forgets extra attempts after the window too", () => {
    const { clock, withdraw } = setup({ ...ratioOnly, minPerSecond: 1 });
    expect(withdraw(20)).toBe(10);
    clock.advance(9_999);
    expect(withdraw()).toBe(0);
    clock.advance(1);
    expect(withdraw(20)).toBe(10);
  });

  it("does not lend: extra attempts outlive the calls that paid for them", () => {
    const { clock, budget, call, withdraw } = setup({ ...ratioOnly, minPerSecond: 0.1 });
    call(50);
    clock.advance(5_000);
    expect(withdraw(20)).toBe(11);
    clock.advance(5_000);
    call(5);
    expect(withdraw()).toBe(0);
    expect(budget.snapshot().ratio).toEqual({ calls: 5, extras: 11, available: 0 });
  });

  it.each([10_000, 10_001, 123_456, 1e9, 1e14])("is as new after %i ms of silence", (silenceMs) => {
    const { clock, budget, call, withdraw } = setup(ratioOnly);
    call(50);
    withdraw(25);
    clock.advance(silenceMs);
    expect(budget.snapshot().ratio).toEqual({ calls: 0, extras: 0, available: 30 });
  });

  it("says which numbers refused an attempt", () => {
    const { budget, call, withdraw } = setup(ratioOnly);
    call(5);
    withdraw(31);
    expect(budget.tryWithdraw()).toEqual({
      budget: "ratio",
      detail: "31 extra attempts for 5 calls in 10000 ms, allowed are 0.2 per call and 30 more",
    });
  });

  it("takes back an attempt that never started", () => {
    const { budget, withdraw } = setup(ratioOnly);
    withdraw(30);
    budget.giveBack();
    expect(withdraw(2)).toBe(1);
  });

  it("takes back an attempt of an earlier slice", () => {
    const { clock, budget, withdraw } = setup(ratioOnly);
    withdraw(30);
    clock.advance(4_000);
    budget.giveBack();
    expect(budget.snapshot().ratio).toMatchObject({ extras: 29, available: 1 });
    clock.advance(6_000);
    expect(budget.snapshot().ratio).toMatchObject({ extras: 0, available: 30 });
  });

  it("takes one attempt back at a time, the newest of those that are as old or older", () => {
    const { clock, budget, withdraw } = setup(ratioOnly);
    withdraw(1);
    clock.advance(1_000);
    withdraw(2);
    clock.advance(3_000);
    const withdrawnMs = clock.now();
    clock.advance(1_000);
    withdraw(4);
    const left = [1, 2, 3, 4].map(() => {
      budget.giveBack(withdrawnMs);
      return budget.snapshot().ratio?.extras;
    });
    expect(left).toEqual([6, 5, 4, 4]);
    clock.advance(5_000);
    expect(budget.snapshot().ratio?.extras).toBe(4);
  });

  it("takes an attempt back that was taken on a clock that has gone backwards since", () => {
    const { clock, budget, withdraw } = setup(ratioOnly);
    withdraw(3);
    budget.giveBack(clock.now() + 60_000);
    expect(budget.snapshot().ratio).toMatchObject({ extras: 2 });
  });

  it("gives nothing for an attempt that the window has already forgotten", () => {
    const { clock, budget, withdraw } = setup(ratioOnly);
    withdraw();
    const withdrawnMs = clock.now();
    clock.advance(10_000);
    expect(withdraw(100)).toBe(30);
    budget.giveBack(withdrawnMs);
    expect(withdraw()).toBe(0);
  });

  it("frees the slice in which the attempt was taken, not a newer one", () => {
    const { clock, budget, withdraw } = setup(ratioOnly);
    withdraw(10);
    const withdrawnMs = clock.now();
    clock.advance(5_000);
    withdraw(20);
    budget.giveBack(withdrawnMs);
    clock.advance(5_000);
    expect(budget.snapshot().ratio).toMatchObject({ extras: 20 });
  });

  it("is never worth more than nothing taken", () => {
    const { budget, withdraw } = setup(ratioOnly);
    budget.giveBack();
    budget.giveBack();
    expect(withdraw(100)).toBe(30);
  });

  it("takes a clock that goes backwards for one that stands", () => {
    const { clock, budget, call, withdraw } = setup({ ...ratioOnly, minPerSecond: 0 });
    call(10);
    clock.advance(-60_000);
    call(10);
    expect(withdraw(10)).toBe(4);
    clock.advance(60_000);
    expect(budget.snapshot().ratio).toEqual({ calls: 20, extras: 4, available: 0 });
  });
});

describe("the token budget", () => {
  const tokensOnly = { ratio: false } as const;

  it("stops extra attempts when half of the tokens are left, after the failure that took the last", () => {
    const { budget, fail, withdraw } = setup({ ...tokensOnly, maxTokens: 10 });
    fail(4);
    expect(withdraw()).toBe(1);
    fail();
    expect(budget.tryWithdraw()).toEqual({
      budget: "tokens",
      detail: "5 of 10 tokens left, more than 5 needed",
    });
  });

  it("costs no token to start an attempt", () => {
    const { withdraw } = setup(tokensOnly);
    expect(withdraw(1_000)).toBe(1_000);
  });

  it("starts extra attempts again when successes have brought more than half", () => {
    const { fail, succeed, withdraw } = setup({ ...tokensOnly, maxTokens: 10, tokenRatio: 0.25 });
    fail(6);
    succeed(4);
    expect(withdraw()).toBe(0);
    succeed();
    expect(withdraw()).toBe(1);
  });

  it("adds tenths of tokens up without loss", () => {
    const { budget, fail, succeed } = setup(tokensOnly);
    fail(40);
    succeed(300);
    expect(budget.snapshot().tokens).toEqual({ left: 90, max: 100 });
  });

  it("never has more tokens than the most, nor fewer than none", () => {
    const { budget, fail, succeed } = setup({ ...tokensOnly, maxTokens: 2.5 });
    succeed(10);
    expect(budget.snapshot().tokens).toEqual({ left: 2.5, max: 2.5 });
    fail(10);
    expect(budget.snapshot().tokens).toEqual({ left: 0, max: 2.5 });
    succeed(14);
    expect(budget.snapshot().tokens).toEqual({ left: 1.4, max: 2.5 });
  });

  it("does not heal with time alone", () => {
    const { clock, fail, withdraw } = setup(tokensOnly);
    fail(50);
    clock.advance(1e9);
    expect(withdraw()).toBe(0);
  });
});

describe("both budgets together", () => {
  it("need each other's consent, and one that refuses charges nothing to the other", () => {
    const { budget, fail, succeed, withdraw } = setup();
    fail(50);
    expect(withdraw(10)).toBe(0);
    expect(budget.snapshot()).toEqual({
      ratio: { calls: 0, extras: 0, available: 30 },
      tokens: { left: 50, max: 100 },
      allowed: 0,
      refused: 10,
    });
    succeed();
    expect(withdraw(40)).toBe(30);
    expect(budget.snapshot()).toEqual({
      ratio: { calls: 0, extras: 30, available: 0 },
      tokens: { left: 50.1, max: 100 },
      allowed: 30,
      refused: 20,
    });
  });

  it("show only what is on", () => {
    expect(setup({ ratio: false }).budget.snapshot()).not.toHaveProperty("ratio");
    expect(setup({ maxTokens: false }).budget.snapshot()).not.toHaveProperty("tokens");
  });

  it("hold a steady outage to the reserve and a fifth of the calls", () => {
    const { clock, budget, call } = setup({ maxTokens: false });
    let extras = 0;
    for (let second = 0; second < 100; second += 1) {
      for (let n = 0; n < 50; n += 1) {
        call();
        budget.failure();
        if (budget.tryWithdraw() === undefined) extras += 1;
        clock.advance(20);
      }
    }
    // 5_000 calls in ten windows: a fifth of them and ten reserves of 30, as far as slices allow.
    expect(extras).toBeGreaterThan(1_100);
    expect(extras).toBeLessThanOrEqual(1_300);
  });
});

it("budgets of one target are shared by all whose options say the same", () => {
  const store = new BudgetStore(new VirtualClock());
  const of = (options?: RetryBudgetOptions) => store.of(resolveRetryBudgetOptions(options));
  expect(of({ ratio: 0.2 }).get("target")).toBe(of().get("target"));
  expect(of().get("another target")).not.toBe(of().get("target"));
  expect(of({ ratio: 0.3 }).get("target")).not.toBe(of().get("target"));
});
