import type { Clock } from "./clock.js";
import { Keyed } from "./keyed.js";
import { RetryBudget, type RetryBudgetSnapshot } from "./retry-budget.js";
import type { ResolvedRetryBudgetOptions } from "./retry-budget-options.js";

/**
 * The retry budgets of a process, by target. All clients that ask with equal options share them: a target does
 * not bear more extra attempts because it is reached through more channels.
 */
export class BudgetStore {
  readonly #clock: Clock;
  readonly #byOptions = new Map<string, Keyed<RetryBudget>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The budgets with these options, by target. */
  of(options: ResolvedRetryBudgetOptions): Keyed<RetryBudget> {
    const key = JSON.stringify(options);
    let budgets = this.#byOptions.get(key);
    if (budgets === undefined) {
      budgets = new Keyed(() => new RetryBudget(options, this.#clock));
      this.#byOptions.set(key, budgets);
    }
    return budgets;
  }
}

/** The numbers of budgets, by target. */
export function budgetSnapshots(
  budgets: Keyed<RetryBudget> | undefined,
): Readonly<Record<string, RetryBudgetSnapshot>> {
  const entries = [...(budgets?.entries() ?? [])];
  return Object.fromEntries(entries.map(([target, budget]) => [target, budget.snapshot()]));
}
