import {
  RetryBudget,
  type RetryBudgetOptions,
  resolveRetryBudgetOptions,
} from "../../../src/policies/retry/budget.js";
import type { BudgetRules } from "../../../src/policies/retry/budget-counts.js";
import {
  type BudgetLedger,
  type BudgetReport,
  type FleetBalance,
  SharedRetryBudgets,
} from "../../../src/policies/retry/shared-budget.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";

const ranks = [0, 1, 2, 3];

/** The reports of all processes under a virtual clock, by the arithmetic of the script in Redis. */
export class FakeBudgetLedger implements BudgetLedger {
  latencyMs = 1;
  fate: () => "answered" | "lost" | "refused" = () => "answered";
  reports = 0;
  readonly #clock: VirtualClock;
  readonly #slices = new Map<string, Map<number, { calls: number[]; extras: number[] }>>();
  readonly #taken = new Map<string, number[]>();
  readonly #processes = new Map<object, number>();

  constructor(clock: VirtualClock) {
    this.#clock = clock;
  }

  /** The ledger as one process has it. */
  by(process: object): BudgetLedger {
    return { report: (...given) => this.#report(process, ...given) };
  }

  report(...given: Parameters<BudgetLedger["report"]>): Promise<FleetBalance> {
    return this.#report(this, ...given);
  }

  async #report(
    process: object,
    name: string,
    seen: BudgetReport,
    rules: BudgetRules,
  ): Promise<FleetBalance> {
    this.reports += 1;
    const fate = this.fate();
    await this.#pass();
    if (fate === "refused") throw new Error("the ledger is away");
    const balance = this.#add(process, name, seen, rules);
    await this.#pass();
    if (fate === "lost") throw new Error("the answer is lost");
    return balance;
  }

  #add(process: object, name: string, seen: BudgetReport, rules: BudgetRules): FleetBalance {
    const nowMs = this.#clock.now();
    const slice = Math.floor(nowMs / (rules.windowMs / 10));
    const slices = this.#slices.get(name) ?? new Map();
    this.#slices.set(name, slices);
    const { calls, extras } = slices.get(slice) ?? { calls: [0, 0, 0, 0], extras: [0, 0, 0, 0] };
    slices.set(slice, { calls: added(calls, seen.calls), extras: added(extras, seen.extras) });
    for (const of of slices.keys()) if (of <= slice - 10) slices.delete(of);
    const sums = { calls: [0, 0, 0, 0], extras: [0, 0, 0, 0] };
    for (const each of slices.values()) {
      sums.calls = added(sums.calls, each.calls);
      sums.extras = added(sums.extras, each.extras);
    }
    const takenBy = this.#tokens(name, seen, rules);
    this.#processes.set(process, nowMs + 2_000);
    const there = [...this.#processes.values()].filter((untilMs) => untilMs > nowMs);
    return { ...sums, takenBy, processes: there.length };
  }

  #tokens(name: string, seen: BudgetReport, rules: BudgetRules): number[] {
    const taken = [...(this.#taken.get(name) ?? [0, 0, 0, 0])];
    if (rules.maxMilliTokens === false) return taken;
    const max = rules.maxMilliTokens;
    const left = () => max - taken.reduce((all, each) => all + each, 0);
    const back = (rank: number, most: number) => {
      const returned = Math.min(taken[rank] ?? 0, most);
      taken[rank] = (taken[rank] ?? 0) - returned;
      return returned;
    };
    for (const rank of ranks) {
      const need = 1_000 * (seen.failures[rank] ?? 0);
      for (const lower of [3, 2, 1, 0])
        if (lower > rank && left() < need) back(lower, need - left());
      taken[rank] = (taken[rank] ?? 0) + Math.max(0, Math.min(need, left()));
    }
    for (const rank of ranks) {
      let rest = (seen.successes[rank] ?? 0) * rules.milliTokenRatio;
      rest -= back(rank, rest);
      for (const each of ranks) rest -= back(each, rest);
    }
    this.#taken.set(name, taken);
    return taken;
  }

  #pass(): Promise<void> {
    return new Promise((resolve) => {
      this.#clock.schedule(this.latencyMs / 2, resolve, { ref: false });
    });
  }
}

function added(one: readonly number[], other: readonly number[]): number[] {
  return ranks.map((rank) => (one[rank] ?? 0) + (other[rank] ?? 0));
}

/** Some processes that share the budget of one target, and one that has the same budget alone. */
export function fleetScene(options: RetryBudgetOptions = {}, processes = 1) {
  // At the start of a slice.
  const clock = new VirtualClock();
  const ledger = new FakeBudgetLedger(clock);
  const errors: unknown[] = [];
  const shares = Array.from({ length: processes }, () => {
    const onError = (error: unknown) => errors.push(error);
    return new SharedRetryBudgets(ledger.by({}), 250, clock, onError, "budgets");
  });
  const budgets = shares.map(
    (share) => new RetryBudget(resolveRetryBudgetOptions({ ...options, share }), clock, "target"),
  );
  const alone = new RetryBudget(resolveRetryBudgetOptions(options), clock);
  const times = (count: number, what: () => void) => {
    for (let done = 0; done < count; done += 1) what();
  };
  const [budget = alone, other = alone] = budgets;
  return {
    clock,
    ledger,
    errors,
    shares,
    budgets,
    budget,
    other,
    alone,
    times,
    /** How many of so many extra attempts are allowed. */
    withdraw: (count: number, by = budget) => {
      let allowed = 0;
      times(count, () => {
        if (by.tryWithdraw() === undefined) allowed += 1;
      });
      return allowed;
    },
  };
}
