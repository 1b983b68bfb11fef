import { describe, expect, it } from "vitest";
import { type Priority, priorities } from "../../../src/core/priority.js";
import {
  RetryBudget,
  type RetryBudgetOptions,
  resolveRetryBudgetOptions,
} from "../../../src/policies/retry/budget.js";
import { fakeClock } from "../../core/fake-clock.js";

function setup(options: RetryBudgetOptions) {
  const clock = fakeClock(1_000_000);
  const budget = new RetryBudget(resolveRetryBudgetOptions(options), clock);
  const times = (count: number, what: () => void) => {
    for (let done = 0; done < count; done += 1) what();
  };
  return {
    clock,
    budget,
    call: (count: number, priority?: Priority) => times(count, () => budget.call(priority)),
    fail: (count: number, priority?: Priority) =>
      times(count, () => budget.failure(undefined, priority)),
    succeed: (count: number, priority?: Priority) => times(count, () => budget.success(priority)),
    /** How many of 1,000 extra attempts are allowed. */
    drain: (priority?: Priority) => {
      let allowed = 0;
      times(1_000, () => {
        if (budget.tryWithdraw(priority) === undefined) allowed += 1;
      });
      return allowed;
    },
  };
}

describe("the ratio of a budget", () => {
  const options = { ratio: 0.2, minPerSecond: 2, maxTokens: false } as const;

  it("keeps the higher priorities' share of the calls from lower ones", () => {
    const { call, drain } = setup(options);
    for (const priority of priorities) call(25, priority);
    // 100 calls allow 20, and the reserve is 20.
    expect(drain("low")).toBe(10);
    expect(drain("normal")).toBe(10);
    expect(drain("high")).toBe(10);
    expect(drain("critical")).toBe(10);
  });

  it("gives a higher priority what lower ones leave", () => {
    const { call, drain } = setup(options);
    for (const priority of priorities) call(25, priority);
    expect(drain("normal")).toBe(20);
    expect(drain("low")).toBe(0);
    expect(drain("critical")).toBe(20);
  });

  it("keeps for a few important calls as much as admission does, up to one for each", () => {
    const many = setup(options);
    many.call(970, "normal");
    many.call(30, "critical");
    // 220 are allowed. Three calls in a hundred have 6 of them as their share; 15 % would be 33.
    expect(many.drain("normal")).toBe(190);
    expect(many.drain("critical")).toBe(30);
    const one = setup(options);
    one.call(999, "low");
    one.call(1, "critical");
    expect(one.drain("low")).toBe(219);
    expect(one.drain("high")).toBe(0);
    expect(one.drain("critical")).toBe(1);
  });

  it("keeps nothing for a priority without calls in the window", () => {
    const { call, drain, clock } = setup(options);
    call(50, "critical");
    clock.advance(10_000);
    call(100);
    expect(drain()).toBe(40);
  });

  it("counts a call without a priority as normal", () => {
    const { call, drain } = setup(options);
    call(50);
    call(50, "high");
    expect(drain("normal")).toBe(20);
    expect(drain()).toBe(0);
    expect(drain("high")).toBe(20);
  });

  it("takes an attempt back for the priority that took it", () => {
    const { budget, call, drain, clock } = setup(options);
    for (const priority of priorities) call(25, priority);
    drain("low");
    budget.giveBack(clock.now(), "low");
    expect(drain("low")).toBe(1);
    budget.giveBack(clock.now(), "high");
    expect(drain("low")).toBe(0);
    expect(drain("critical")).toBe(30);
  });

  it("says how much is kept for others", () => {
    const { budget, call, drain } = setup(options);
    for (const priority of priorities) call(25, priority);
    drain("low");
    expect(budget.tryWithdraw("low")?.detail).toBe(
      "10 extra attempts of low calls, and 30 are kept for higher priorities, " +
        "for 100 calls in 10000 ms, allowed are 0.2 per call and 20 more",
    );
    drain("high");
    expect(budget.tryWithdraw("normal")?.detail).toBe(
      "30 extra attempts of high and lower calls, and 10 are kept for higher priorities, " +
        "for 100 calls in 10000 ms, allowed are 0.2 per call and 20 more",
    );
    drain("critical");
    expect(budget.tryWithdraw("critical")?.detail).toBe(
      "40 extra attempts for 100 calls in 10000 ms, allowed are 0.2 per call and 20 more",
    );
  });
});

describe("the tokens of a budget", () => {
  const options = { ratio: false, maxTokens: 100, tokenRatio: 0.5 } as const;
  const mayRetry = ({ budget }: ReturnType<typeof setup>) =>
    priorities.filter((priority) => budget.tryWithdraw(priority) === undefined);

  it("keeps the higher priorities' share of the half that may be taken", () => {
    const scene = setup(options);
    for (const priority of priorities) scene.call(25, priority);
    scene.fail(12, "low");
    expect(mayRetry(scene)).toEqual(priorities);
    scene.fail(1, "low");
    expect(mayRetry(scene)).toEqual(["critical", "high", "normal"]);
    // However often low calls fail.
    scene.fail(500, "low");
    expect(mayRetry(scene)).toEqual(["critical", "high", "normal"]);
    scene.fail(12, "normal");
    expect(mayRetry(scene)).toEqual(["critical", "high"]);
    scene.fail(13, "high");
    expect(mayRetry(scene)).toEqual(["critical"]);
    scene.fail(11, "critical");
    expect(mayRetry(scene)).toEqual(["critical"]);
    scene.fail(1, "critical");
    expect(mayRetry(scene)).toEqual([]);
  });

  it("keeps two for a single important call: for its failure, and for what has to be left", () => {
    const scene = setup(options);
    scene.call(999, "low");
    scene.call(1, "critical");
    scene.fail(47, "low");
    expect(mayRetry(scene)).toEqual(priorities);
    scene.fail(1, "low");
    expect(mayRetry(scene)).toEqual(["critical"]);
    scene.fail(1, "critical");
    expect(mayRetry(scene)).toEqual(["critical"]);
    scene.fail(1, "critical");
    expect(mayRetry(scene)).toEqual([]);
  });

  it("counts the failure of a higher priority in place of a lower one when no token is left", () => {
    const scene = setup({ ...options, tokenRatio: 0.25 });
    for (const priority of priorities) scene.call(25, priority);
    scene.fail(100, "low");
    scene.succeed(1, "low");
    expect(scene.budget.snapshot().tokens?.left).toBe(0.25);
    expect(mayRetry(scene)).toEqual(["critical", "high", "normal"]);
    // A quarter of the first token was left; the rest of it, and all others, were those of low calls.
    scene.fail(38, "critical");
    expect(scene.budget.snapshot().tokens?.left).toBe(0);
    expect(mayRetry(scene)).toEqual([]);
    scene.succeed(5, "critical");
    expect(mayRetry(scene)).toEqual(["critical", "high", "normal"]);
    expect(scene.budget.snapshot().tokens?.left).toBe(1.25);
  });

  it("says how much is kept for others", () => {
    const { budget, call, fail } = setup(options);
    for (const priority of priorities) call(25, priority);
    fail(20, "low");
    expect(budget.tryWithdraw("low")?.detail).toBe(
      "failures of low calls have taken 20 of 100 tokens, more than 50 needed, and 37 are kept for higher priorities",
    );
    fail(40, "critical");
    expect(budget.tryWithdraw("critical")?.detail).toBe(
      "40 of 100 tokens left, more than 50 needed",
    );
  });

  it("gives a success back to its own priority first, then to the highest", () => {
    const scene = setup(options);
    for (const priority of priorities) scene.call(25, priority);
    scene.fail(13, "low");
    scene.fail(60, "critical");
    expect(mayRetry(scene)).toEqual([]);
    scene.succeed(2, "low");
    expect(scene.budget.snapshot().tokens?.left).toBe(28);
    scene.succeed(44, "normal");
    expect(scene.budget.snapshot().tokens?.left).toBe(50);
    expect(mayRetry(scene)).toEqual([]);
    scene.succeed(1, "normal");
    expect(mayRetry(scene)).toEqual(priorities);
    scene.succeed(500, "critical");
    expect(scene.budget.snapshot().tokens?.left).toBe(100);
  });
});
