import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../src/core/options.js";
import { RetryBudget, resolveRetryBudgetOptions } from "../../src/policies/retry/budget.js";
import type { RedisClient } from "../../src/redis/client.js";
import { redisRetryBudgets } from "../../src/redis/retry-budgets.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { askedClient } from "./asked-client.js";

function scene(answer: () => Promise<unknown>) {
  const { client, asked } = askedClient(answer);
  const clock = new VirtualClock();
  const errors: unknown[] = [];
  const onError = (error: unknown) => errors.push(error);
  const share = redisRetryBudgets(client, { clock, onError, prefix: "shop:" });
  const budgetOf = (target: string, more = {}) =>
    new RetryBudget(resolveRetryBudgetOptions({ share, ...more }), clock, target);
  return { clock, asked, errors, share, budgetOf };
}

const balance = ["7", "0", "1000", "0", "0", "0", "4", "0", "0", "0", "2500", "0", "3"];

describe("retry budgets in Redis", () => {
  it("report what is new by priority, and read what all have together", async () => {
    const { clock, asked, budgetOf } = scene(async () => ["1", "ran", ...balance]);
    const budget = budgetOf("dns:///orders");
    budget.call("critical");
    budget.call("low");
    budget.failure(undefined, "high");
    budget.success("low");
    budget.tryWithdraw("low");
    await clock.pass(5);
    expect(asked[0]?.args.slice(1, -1)).toEqual(
      [2_000, 1_000_000, 10, 100_000, 100, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0].map(
        String,
      ),
    );
    const [first = "", second = ""] = asked[0]?.keys ?? [];
    expect(first).toMatch(/^shop:\{budget:[\w-]{43}\}$/);
    expect(second).toBe(`${first}:processes`);
    expect(budget.snapshot().fleet).toEqual({
      known: true,
      away: false,
      processes: 3,
      ratio: { calls: 1_007, extras: 4, available: 227 },
      tokens: { left: 97.5, max: 100 },
    });
  });

  it("have a key for each target and for each set of numbers", async () => {
    const { clock, asked, budgetOf } = scene(async () => ["1", "ran", ...balance]);
    for (const budget of [
      budgetOf("a"),
      budgetOf("b"),
      budgetOf("a", { ratio: 0.1 }),
      budgetOf("a"),
    ]) {
      budget.call();
      await clock.pass(5);
    }
    expect(new Set(asked.map(({ keys }) => keys[0])).size).toBe(3);
  });

  it.each([
    ["too few numbers", ["1", "ran", "2"]],
    ["no numbers", ["1", "ran", ...balance.map(() => "x")]],
  ])("are those of the process alone when Redis answers with %s", async (_what, reply) => {
    const { clock, budgetOf, errors } = scene(async () => reply);
    const budget = budgetOf("a");
    budget.call();
    await clock.pass(5);
    expect(budget.snapshot().fleet).toMatchObject({ known: false, away: true });
    expect(errors).toHaveLength(1);
  });

  it.each<[string, unknown]>([
    ["reportMs", 19],
    ["onError", "log"],
    ["prefix", "{"],
    ["timeoutMs", 0],
    ["interval", 5],
  ])("refuse the option %s: %s", (option, value) => {
    const client: RedisClient = {
      evalsha: async () => [],
      eval: async () => [],
      subscribe: () => () => {},
    };
    const build = () => redisRetryBudgets(client, { [option]: value });
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(`redisRetryBudgets.${option}`);
  });
});
