import fc from "fast-check";
import { expect, it } from "vitest";
import { fleetScene } from "./fleet-scene.js";

const priority = fc.constantFrom(
  "critical" as const,
  "high" as const,
  "normal" as const,
  "low" as const,
);
const step = fc.record({
  op: fc.constantFrom(
    "call",
    "call",
    "call",
    "success",
    "failure",
    "withdraw",
    "withdraw",
    "giveBack",
    "pass",
  ),
  by: fc.nat(3),
  count: fc.integer({ min: 1, max: 60 }),
  priority,
  ms: fc.integer({ min: 1, max: 400 }),
});
const options = fc.record({
  ratio: fc.constantFrom(0.1, 0.2, 1),
  minPerSecond: fc.constantFrom(0, 1, 5),
  maxTokens: fc.constantFrom<(number | false)[]>(false, 20, 100),
});

it("a process whose store never answers decides like one that shares nothing", async () => {
  await fc.assert(
    fc.asyncProperty(
      options,
      fc.array(step, { maxLength: 80, size: "max" }),
      fc.constantFrom("refused" as const, "lost" as const),
      async (numbers, script, fate) => {
        const { clock, ledger, budget, alone, times } = fleetScene(numbers);
        ledger.fate = () => fate;
        for (const { op, count, priority: by, ms } of script) {
          if (op === "pass") await clock.pass(ms);
          else {
            times(count, () => {
              if (op === "withdraw") {
                const refused = alone.tryWithdraw(by);
                expect(budget.tryWithdraw(by)?.budget).toBe(refused?.budget);
                return;
              }
              for (const each of [budget, alone]) {
                if (op === "call") each.call(by);
                else if (op === "success") each.success(by);
                else if (op === "failure") each.failure(undefined, by);
                else each.giveBack(undefined, by);
              }
            });
          }
        }
        const { fleet, ...own } = budget.snapshot();
        expect(own).toEqual(alone.snapshot());
        expect(fleet?.known).toBe(false);
      },
    ),
    { numRuns: 120 },
  );
});

it("all processes together stay within the bound of one budget and a share of each", async () => {
  await fc.assert(
    fc.asyncProperty(
      options,
      fc.array(step, { maxLength: 80, size: "max" }),
      fc.constantFrom(1, 10, 60),
      async (numbers, script, latencyMs) => {
        const { clock, ledger, budgets } = fleetScene(numbers, 4);
        ledger.latencyMs = latencyMs;
        const startMs = clock.now();
        let calls = 0;
        let extras = 0;
        /** The most that each could use between two answers. */
        const shares = [0, 0, 0, 0];
        // Until all have heard of all.
        for (let n = 0; n < 2; n += 1) {
          for (const budget of budgets) budget.call();
          calls += 4;
          await clock.pass(400);
        }
        for (const { op, by, count, ms, priority: of } of script) {
          const budget = budgets[by];
          if (budget === undefined) continue;
          if (op === "pass") {
            // Everybody has something to report, so that all know the balance.
            for (const each of budgets) each.call();
            calls += 4;
            await clock.pass(ms);
          }
          // Within one window nothing is forgotten, and the sums are plain.
          if (clock.now() - startMs > 9_000) break;
          for (let n = 0; n < count; n += 1) {
            if (op === "call") {
              budget.call(of);
              calls += 1;
            } else if (op === "success") budget.success(of);
            else if (op === "failure") budget.failure(undefined, of);
            else if (op === "withdraw") {
              const { fleet } = budget.snapshot();
              expect(fleet?.known).toBe(true);
              const left = fleet?.ratio?.available ?? 0;
              shares[by] = Math.max(shares[by] ?? 0, 1, (left + 1) / 8);
              if (budget.tryWithdraw(of) === undefined) extras += 1;
            }
          }
        }
        const allowed = numbers.minPerSecond * 10 + numbers.ratio * calls;
        expect(extras).toBeLessThanOrEqual(allowed + shares.reduce((all, each) => all + each, 0));
      },
    ),
    { numRuns: 80 },
  );
});
