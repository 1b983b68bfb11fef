import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { systemClock } from "../../../src/core/clock.js";
import {
  RetryBudget,
  type RetryBudgetOptions,
  resolveRetryBudgetOptions,
} from "../../../src/policies/retry/budget.js";
import type { SharedRetryBudgets } from "../../../src/policies/retry/shared-budget.js";
import {
  type RedisRetryBudgetsOptions,
  redisRetryBudgets,
} from "../../../src/redis/retry-budgets.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { FakeBudgetLedger } from "../../policies/retry/fleet-scene.js";
import { libraries, type OpenClient } from "./clients.js";
import { type RedisProcess, startRedis } from "./redis-server.js";

const processes = 4;

describe.each(Object.entries(libraries))("retry budgets in a Redis, over %s", (_name, open) => {
  let redis: RedisProcess | undefined;
  const opened: OpenClient[] = [];
  const shares: SharedRetryBudgets[] = [];
  afterEach(async () => {
    for (const share of shares.splice(0)) share.close();
    for (const each of opened.splice(0)) each.close();
    await redis?.close();
  });

  /** Budgets of one target, each over a connection of its own, as processes have them. */
  async function budgetsOf(
    { port }: RedisProcess,
    options: RetryBudgetOptions = {},
    more: RedisRetryBudgetsOptions = {},
  ) {
    const made: RetryBudget[] = [];
    for (let n = 0; n < processes; n += 1) {
      const client = await open(port);
      opened.push(client);
      const share = redisRetryBudgets(client.client, { onError: () => {}, reportMs: 50, ...more });
      shares.push(share);
      const resolved = resolveRetryBudgetOptions({ ...options, share });
      made.push(new RetryBudget(resolved, systemClock, "dns:///orders"));
    }
    return made;
  }

  const knownToAll = (budgets: readonly RetryBudget[]) =>
    expect
      .poll(
        () => {
          for (const budget of budgets) budget.call();
          return budgets.every((budget) => {
            const { fleet } = budget.snapshot();
            return fleet?.known === true && fleet.processes === processes;
          });
        },
        { timeout: 10_000, interval: 60 },
      )
      .toBe(true);

  it("count what all have seen by the arithmetic of one process", async () => {
    redis = await startRedis();
    const connection = await open(redis.port);
    opened.push(connection);
    const resolved = resolveRetryBudgetOptions({ maxTokens: 20 });
    const clock = new VirtualClock();
    const fake = new FakeBudgetLedger(clock);
    const share = redisRetryBudgets(connection.client, { timeoutMs: 5_000 });
    shares.push(share);
    let seed = 7;
    const draw = (below: number) => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed % below;
    };
    const ranks = () => [draw(9), draw(9), draw(9), draw(9)];
    for (let n = 0; n < 60; n += 1) {
      const seen = {
        calls: ranks(),
        extras: ranks().map((count) => count - 3),
        successes: ranks().map((count) => count * draw(12)),
        failures: ranks(),
      };
      const [answer, expected] = await Promise.all([
        share.send("target", seen, resolved),
        clock.until(fake.report("target", seen, resolved)),
      ]);
      expect(answer).toEqual({ ...expected, processes: 1 });
    }
  });

  it("allow all processes together what one budget allows, and a share of each", async () => {
    redis = await startRedis();
    const budgets = await budgetsOf(redis, { minPerSecond: 2, windowMs: 60_000 });
    await knownToAll(budgets);
    // The first of them have the calls, and all want extra attempts.
    let allowed = 0;
    for (let n = 0; n < 100; n += 1) budgets[0]?.call();
    for (let round = 0; round < 25; round += 1) {
      for (const budget of budgets) {
        for (let n = 0; n < 5; n += 1) if (budget.tryWithdraw() === undefined) allowed += 1;
        budget.call();
      }
      await sleep(50);
    }
    const calls = budgets.reduce((sum, budget) => sum + (budget.snapshot().ratio?.calls ?? 0), 0);
    const bound = 2 * 60 + 0.2 * calls;
    expect(allowed).toBeLessThanOrEqual(bound * 1.5 + processes);
    expect(allowed).toBeGreaterThan(bound * 0.8);
  });

  it("stop the extra attempts of all for the failures of one", async () => {
    redis = await startRedis();
    const budgets = await budgetsOf(redis);
    await knownToAll(budgets);
    for (let n = 0; n < 60; n += 1) budgets[0]?.failure();
    await expect
      .poll(
        () => {
          for (const budget of budgets) budget.call();
          return budgets.map((budget) => budget.tryWithdraw()?.budget);
        },
        { timeout: 10_000, interval: 60 },
      )
      .toEqual(["tokens", "tokens", "tokens", "tokens"]);
  });

  it.each(["killed", "stopped"] as const)(
    "are those of each process while Redis is %s, and shared again after it",
    async (how) => {
      const server = await startRedis();
      redis = server;
      const budgets = await budgetsOf(server, {}, { timeoutMs: 300 });
      await knownToAll(budgets);
      if (how === "killed") await server.kill();
      else server.pause();
      await expect
        .poll(
          () => {
            for (const budget of budgets) budget.call();
            return budgets.map(({ reason }) => reason?.reason);
          },
          { timeout: 10_000, interval: 60 },
        )
        .toEqual(Array.from({ length: processes }, () => "STORE_AWAY"));
      const sinceMs = performance.now();
      for (const budget of budgets) {
        let allowed = 0;
        for (let n = 0; n < 100; n += 1) if (budget.tryWithdraw() === undefined) allowed += 1;
        expect(allowed).toBeGreaterThanOrEqual(20);
        expect(allowed).toBeLessThan(60);
      }
      expect(performance.now() - sinceMs).toBeLessThan(300);
      if (how === "killed") await server.restart();
      else server.resume();
      await knownToAll(budgets);
      expect(budgets.map(({ reason }) => reason)).toEqual(budgets.map(() => undefined));
    },
  );
});
