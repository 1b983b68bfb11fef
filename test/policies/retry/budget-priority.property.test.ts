import fc from "fast-check";
import { expect, it } from "vitest";
import { type Priority, priorities, priorityRank } from "../../../src/core/priority.js";
import { RetryBudget, resolveRetryBudgetOptions } from "../../../src/policies/retry/budget.js";
import { fakeClock } from "../../core/fake-clock.js";

const windowMs = 10_000;

const priority = fc.constantFrom(...priorities);

const steps = fc.array(
  fc.record({
    what: fc.constantFrom(
      "call",
      "call",
      "call",
      "success",
      "failure",
      "withdraw",
      "withdraw",
      "give back",
    ),
    priority,
    passMs: fc.oneof(
      { weight: 8, arbitrary: fc.nat(200) },
      { weight: 1, arbitrary: fc.nat(20_000) },
    ),
  }),
  { minLength: 20, maxLength: 200, size: "max" },
);

const settings = fc.record({
  /** Calls before the first step, by rank. */
  before: fc.array(fc.nat(40), { minLength: priorities.length, maxLength: priorities.length }),
  /** In percent, so that the model can count in whole numbers. */
  percent: fc.integer({ min: 1, max: 100 }),
  minPerSecond: fc.nat(2),
});

interface Counted {
  readonly rank: number;
  readonly atMs: number;
}

/** Admission's default thresholds, in percent: what is not kept for higher priorities. */
const usablePercent = [100, 95, 85, 70];

it("a priority and all lower ones never take what is kept for higher ones, and get all else", () => {
  fc.assert(
    fc.property(settings, steps, ({ before, percent, minPerSecond }, taken) => {
      const clock = fakeClock(1_000_000);
      const options = { windowMs, ratio: percent / 100, minPerSecond, maxTokens: false } as const;
      const budget = new RetryBudget(resolveRetryBudgetOptions(options), clock);
      const inWindow = ({ atMs }: Counted) =>
        Math.floor(clock.now() / 1_000) - Math.floor(atMs / 1_000) < 10;
      const calls: Counted[] = [];
      const extras: Counted[] = [];
      const call = (called: Priority) => {
        budget.call(called);
        calls.push({ rank: priorityRank[called], atMs: clock.now() });
      };
      for (const [rank, count] of before.entries()) {
        for (let n = 0; n < count; n += 1) call(priorities[rank] ?? "normal");
      }
      /** Hundredths of extra attempts that the window allows. */
      const allowed = () =>
        minPerSecond * (windowMs / 1_000) * 100 + calls.filter(inWindow).length * percent;
      const kept = (rank: number) => {
        const present = calls.filter(inWindow);
        const better = present.filter((one) => one.rank < rank).length;
        if (better === 0) return 0;
        const byCalls = Math.floor((allowed() * better) / (present.length * 100));
        const byAdmission = Math.floor((allowed() * (100 - (usablePercent[rank] ?? 0))) / 10_000);
        return Math.max(byCalls, Math.min(byAdmission, better));
      };
      const room = (rank: number) => {
        const spent = extras.filter((one) => inWindow(one) && one.rank >= rank).length;
        return allowed() - (kept(rank) + spent) * 100;
      };

      for (const { what, priority, passMs } of taken) {
        clock.advance(passMs);
        const rank = priorityRank[priority];
        if (what === "call") call(priority);
        else if (what === "withdraw") {
          const free = priorities.slice(0, rank + 1).every((_, each) => room(each) >= 100);
          expect(budget.tryWithdraw(priority) === undefined).toBe(free);
          if (!free) continue;
          extras.push({ rank, atMs: clock.now() });
          for (let each = 0; each <= rank; each += 1) expect(room(each)).toBeGreaterThanOrEqual(0);
        } else if (what === "give back") {
          const last = extras.findLastIndex((one) => one.rank === rank);
          for (const { atMs } of last < 0 ? [] : extras.splice(last, 1)) {
            budget.giveBack(atMs, priority);
          }
        }
      }
    }),
  );
});

it("in no window do the extra attempts of all priorities pass what the calls of all allow", () => {
  fc.assert(
    fc.property(settings, steps, ({ percent, minPerSecond }, taken) => {
      const clock = fakeClock(1_000_000);
      const options = { windowMs, ratio: percent / 100, minPerSecond, maxTokens: false } as const;
      const budget = new RetryBudget(resolveRetryBudgetOptions(options), clock);
      const calls: number[] = [];
      const extras: number[] = [];
      for (const { what, priority, passMs } of taken) {
        clock.advance(passMs);
        if (what === "call") {
          budget.call(priority);
          calls.push(clock.now());
        } else if (budget.tryWithdraw(priority) === undefined) {
          extras.push(clock.now());
          const nowMs = clock.now();
          const extrasNow = extras.filter((ms) => ms > nowMs - windowMs * 0.9).length;
          const callsNow = calls.filter((ms) => ms > nowMs - windowMs).length;
          const allowed = minPerSecond * (windowMs / 1_000) + (callsNow * percent) / 100;
          expect(extrasNow).toBeLessThanOrEqual(allowed + 1e-6);
        }
      }
    }),
  );
});

it("failures of all priorities together are followed by no more extra attempts than those of one", () => {
  const failures = fc.array(priority, { minLength: 1, maxLength: 300, size: "max" });
  fc.assert(
    fc.property(settings, fc.integer({ min: 2, max: 100 }), failures, ({ before }, max, failed) => {
      const budget = new RetryBudget(
        resolveRetryBudgetOptions({ ratio: false, maxTokens: max }),
        fakeClock(1_000_000),
      );
      for (const [rank, count] of before.entries()) {
        for (let n = 0; n < count; n += 1) budget.call(priorities[rank]);
      }
      let extras = 0;
      for (const priority of failed) {
        budget.failure(undefined, priority);
        if (budget.tryWithdraw(priority) === undefined) extras += 1;
      }
      // The failure that takes the last token of the half is followed by none.
      expect(extras).toBeLessThan(max / 2);
      expect(budget.snapshot().tokens?.left).toBe(Math.max(0, max - failed.length));
    }),
  );
});

it("a budget whose calls are all of one priority does not depend on which", () => {
  fc.assert(
    fc.property(settings, steps, priority, ({ percent, minPerSecond }, taken, one) => {
      const clock = fakeClock(1_000_000);
      const options = { windowMs, ratio: percent / 100, minPerSecond, maxTokens: 8 } as const;
      const budgets = [1, 2].map(() => new RetryBudget(resolveRetryBudgetOptions(options), clock));
      for (const { what, passMs } of taken) {
        clock.advance(passMs);
        const answers = budgets.map((budget, index) => {
          const priority = index === 0 ? one : undefined;
          if (what === "call") budget.call(priority);
          else if (what === "success") budget.success(priority);
          else if (what === "failure") budget.failure(undefined, priority);
          else if (what === "give back") budget.giveBack(clock.now(), priority);
          else return budget.tryWithdraw(priority);
          return budget.snapshot();
        });
        expect(answers[0]).toEqual(answers[1]);
      }
    }),
  );
});
