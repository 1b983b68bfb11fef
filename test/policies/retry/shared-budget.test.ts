import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import { BudgetStore, resolveRetryBudgetOptions } from "../../../src/policies/retry/budget.js";
import { fleetScene } from "./fleet-scene.js";

describe("a retry budget that processes share", () => {
  it("is that of the process alone until the first answer is there", () => {
    const { budget, withdraw } = fleetScene();
    budget.call();
    // The reserve of 30, and a fifth of one call.
    expect(withdraw(100)).toBe(30);
    expect(budget.snapshot().fleet).toMatchObject({ known: false, away: false });
  });

  it("asks as soon as a call starts, and not again before reportMs", async () => {
    const { clock, budget, ledger } = fleetScene();
    budget.call();
    await clock.pass(1);
    expect(ledger.reports).toBe(1);
    expect(budget.snapshot().fleet).toMatchObject({ known: true, processes: 1 });
    for (let n = 0; n < 100; n += 1) {
      budget.call();
      await clock.pass(10);
    }
    expect(ledger.reports).toBeLessThanOrEqual(6);
  });

  it("lets a process with few calls use what the calls of the others allow", async () => {
    const { clock, budget, other, alone, times, withdraw } = fleetScene({}, 2);
    times(1_000, () => other.call());
    await clock.pass(300);
    budget.call();
    alone.call();
    await clock.pass(10);
    expect(withdraw(1_000, alone)).toBe(30);
    // A quarter of the 230 that are left: its share of two processes.
    expect(withdraw(1_000)).toBe(57);
    expect(budget.tryWithdraw()).toMatchObject({
      budget: "ratio",
      detail: expect.stringContaining("the share of this process was 57"),
    });
    await clock.pass(30);
    expect(withdraw(1_000)).toBe(Math.floor((230 - 57) / 4));
  });

  it("stops all when the others have used up what there is", async () => {
    const { clock, budget, other, alone, withdraw } = fleetScene({}, 2);
    other.call();
    budget.call();
    await clock.pass(10);
    let used = 0;
    for (let n = 0; n < 200; n += 1) {
      used += withdraw(5, other);
      other.call();
      await clock.pass(25);
      if (used >= 30) break;
    }
    budget.call();
    await clock.pass(260);
    expect(withdraw(100)).toBeLessThanOrEqual(1);
    expect(withdraw(100, alone)).toBe(30);
  });

  it("stops all when the failures of one have taken the tokens, and its successes heal it for all", async () => {
    const { clock, budget, other, times } = fleetScene({}, 2);
    for (const each of [budget, other]) each.call();
    await clock.pass(300);
    times(60, () => other.failure());
    await clock.pass(300);
    budget.call();
    await clock.pass(300);
    expect(budget.tryWithdraw()).toMatchObject({ budget: "tokens" });
    expect(budget.snapshot()).toMatchObject({
      tokens: { left: 100 },
      fleet: { tokens: { left: 40 } },
    });
    times(200, () => other.success());
    other.call();
    await clock.pass(300);
    budget.call();
    await clock.pass(300);
    expect(budget.snapshot().fleet?.tokens?.left).toBe(60);
    expect(budget.tryWithdraw()).toBeUndefined();
  });

  it("keeps a part for the higher priorities of all processes", async () => {
    const { clock, budget, other, times } = fleetScene({ ratio: 0.2, minPerSecond: 0 }, 2);
    times(50, () => other.call("critical"));
    times(50, () => budget.call("low"));
    await clock.pass(600);
    times(5, () => budget.call("low"));
    await clock.pass(10);
    let low = 0;
    for (let n = 0; n < 40; n += 1) {
      while (budget.tryWithdraw("low") === undefined) low += 1;
      await clock.pass(25);
    }
    // 21 for 105 calls, and half of them for the critical ones.
    expect(low).toBeLessThanOrEqual(11);
    expect(budget.tryWithdraw("low")).toBeDefined();
    expect(budget.tryWithdraw("critical")).toBeUndefined();
  });

  it("gets back what was not used", async () => {
    const { clock, budget, withdraw } = fleetScene({ minPerSecond: 1 });
    budget.call();
    await clock.pass(10);
    expect(withdraw(2)).toBe(2);
    budget.giveBack();
    budget.giveBack();
    await clock.pass(300);
    expect(budget.snapshot()).toMatchObject({
      ratio: { extras: 0 },
      fleet: { ratio: { extras: 0, available: 10 } },
    });
  });

  it("has no timer while nothing happens, and none that keeps the process alive", async () => {
    const { clock, budget, withdraw } = fleetScene();
    budget.call();
    withdraw(3);
    expect(clock.pending.refs).toBe(0);
    await clock.pass(2_000);
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
    expect(budget.snapshot().fleet?.known).toBe(false);
  });

  it("is another budget for other numbers, another target and another store", async () => {
    const { clock, shares } = fleetScene({}, 2);
    const [share, second] = shares;
    if (share === undefined || second === undefined) throw new Error("two stores");
    const store = new BudgetStore(clock);
    const of = (more: object) => store.of(resolveRetryBudgetOptions(more));
    expect(of({ share })).toBe(of({ share }));
    expect(of({ share })).not.toBe(of({ share: second }));
    expect(of({ share })).not.toBe(of({}));
    expect(of({ share })).not.toBe(of({ share, ratio: 0.1 }));
    expect(of({ share }).get("a")).not.toBe(of({ share }).get("b"));
  });

  it.each([true, {}, { report: () => {} }])("refuses to be shared by %j", (share) => {
    const build = () => resolveRetryBudgetOptions({ share: share as never });
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow("retry.budget.share");
  });
});

describe("a store of budgets that is away", () => {
  it("leaves each process the budget that it has alone, and gives its extra attempts a reason", async () => {
    const { clock, ledger, budget, withdraw, errors, shares } = fleetScene();
    ledger.fate = () => "refused";
    budget.call();
    await clock.pass(10);
    expect(budget.reason).toEqual({ reason: "STORE_AWAY" });
    expect(withdraw(100)).toBe(30);
    expect(budget.tryWithdraw()?.detail).toBe(
      "30 extra attempts for 1 calls in 10000 ms, allowed are 0.2 per call and 30 more; of this process alone, the store is away",
    );
    expect(errors).toHaveLength(1);
    expect(shares[0]?.snapshot()).toMatchObject({ away: true, failures: 1, reports: 1 });
  });

  it("is asked once per second, and shared as soon as it answers", async () => {
    const { clock, ledger, budget } = fleetScene();
    ledger.fate = () => "refused";
    for (let n = 0; n < 50; n += 1) {
      budget.call();
      await clock.pass(100);
    }
    expect(ledger.reports).toBeLessThanOrEqual(6);
    ledger.fate = () => "answered";
    await clock.pass(1_100);
    budget.call();
    await clock.pass(10);
    expect(budget.snapshot().fleet).toMatchObject({ known: true, away: false });
    expect(budget.reason).toBeUndefined();
  });

  it("is not asked any more when it is closed", async () => {
    const { clock, ledger, budget, shares, withdraw } = fleetScene();
    budget.call();
    await clock.pass(10);
    budget.call();
    shares[0]?.close();
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
    await clock.pass(1_000);
    budget.call();
    budget.failure();
    expect(withdraw(100)).toBe(30);
    await clock.pass(1_000);
    expect(ledger.reports).toBe(1);
    expect(budget.snapshot().fleet?.known).toBe(false);
  });
});
