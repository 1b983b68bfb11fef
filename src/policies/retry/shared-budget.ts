import type { CancelTask, Clock } from "../../core/clock.js";
import { answerOf, type ReportError, reportSafely } from "../../core/user-code.js";
import {
  type BudgetRules,
  CallCounts,
  RatioBudget,
  type RetryBudgetRefusal,
  ranks,
  TokenBudget,
} from "./budget-counts.js";

/** What a process has seen of a target since its last report: by rank. */
export interface BudgetReport {
  readonly calls: readonly number[];
  /** Extra attempts, less those that were given back: it may be below 0. */
  readonly extras: readonly number[];
  readonly successes: readonly number[];
  readonly failures: readonly number[];
}

/** What all processes have together: by rank. */
export interface FleetBalance {
  /** In the window, as for one process. */
  readonly calls: readonly number[];
  readonly extras: readonly number[];
  /** Thousandths of tokens that the failures of each rank have taken. */
  readonly takenBy: readonly number[];
  /** Processes that report now. */
  readonly processes: number;
}

/** Where the reports of all processes come together. */
export interface BudgetLedger {
  /**
   * Adds a report, and answers with the sum. One atomic step. Rejects when it cannot be reached, after a bounded time; whether
   * the report counts then is not known.
   */
  report(name: string, seen: BudgetReport, rules: BudgetRules): Promise<FleetBalance>;
}

/**
 * The numbers of a shared budget at one moment.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/retries.md
 */
export interface FleetSnapshot {
  /** It decides by these numbers. False while there is no answer that is new enough: then this process decides by its own. */
  readonly known: boolean;
  /** The store did not answer the last report. */
  readonly away: boolean;
  /** Processes that report now, this one included. */
  readonly processes: number;
  readonly ratio?: { readonly calls: number; readonly extras: number; readonly available: number };
  readonly tokens?: { readonly left: number; readonly max: number };
}

/**
 * Numbers of all budgets that a process shares. `reports` and `failures` only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/retries.md
 */
export interface SharedBudgetsSnapshot {
  readonly budgets: number;
  readonly reports: number;
  readonly failures: number;
  readonly away: boolean;
}

/** Reports of one budget are at least so far apart, in milliseconds, also when a process has used up its share. */
const shortestGapMs = 20;
/** While the store is away it is asked again after so many milliseconds. Its failures are reported as often. */
const retryMs = 1_000;

/**
 * Retry budgets that processes share. Each process counts what it sees, reports it in the background, and learns what all have
 * together; no call waits for that. It is used as the option `share` of a budget.
 *
 * A budget does no more for a process than it would alone, unless the balance of all says so:
 *
 * - Without an answer that is new enough, because the store is away or nothing has been reported for a while, the process decides
 *   by the budget that it would have alone. That budget counts on, whoever decides.
 * - With one, the balance of all decides, as the same budget would in one process: an extra attempt more than alone is one that
 *   the calls of the others allow, and one less is one that they have used up.
 * - Of what is left for all, a process uses at most its share between two answers: `left / (2 * processes)`, at least one. So
 *   all together pass the bound by no more than one share of each. With the tokens, it is what fails between two reports of
 *   others that a process does not know yet.
 * - A report whose answer is lost is not sent again: it counts once or not at all.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/retries.md
 */
export class SharedRetryBudgets {
  readonly clock: Clock;
  /** A process with something to report does so this often, in milliseconds. */
  readonly reportMs: number;
  readonly #ledger: BudgetLedger;
  readonly #report: ReportError;
  readonly #where: string;
  readonly #budgets = new Set<WeakRef<FleetBudget>>();
  #reports = 0;
  #failures = 0;
  #away = false;
  #closed = false;
  #retryAtMs = -Infinity;
  #reportAtMs = -Infinity;

  /** @internal Use `redisRetryBudgets`. */
  constructor(
    ledger: BudgetLedger,
    reportMs: number,
    clock: Clock,
    report: ReportError,
    where: string,
  ) {
    this.#ledger = ledger;
    this.reportMs = reportMs;
    this.clock = clock;
    this.#report = report;
    this.#where = where;
  }

  /** Ends the reports. From then on each budget is that of this process. */
  close(): void {
    this.#closed = true;
    for (const budget of this.#budgets) budget.deref()?.stop();
    this.#budgets.clear();
  }

  snapshot(): SharedBudgetsSnapshot {
    let budgets = 0;
    for (const budget of this.#budgets) budgets += budget.deref() === undefined ? 0 : 1;
    return { budgets, reports: this.#reports, failures: this.#failures, away: this.#away };
  }

  /** @internal A budget of this process as a part of that of all. */
  join(name: string, rules: BudgetRules): FleetBudget {
    const budget = new FleetBudget(name, rules, this);
    for (const each of this.#budgets) if (each.deref() === undefined) this.#budgets.delete(each);
    if (!this.#closed) this.#budgets.add(new WeakRef(budget));
    return budget;
  }

  /** @internal */
  get away(): boolean {
    return this.#away;
  }

  /** @internal */
  get closed(): boolean {
    return this.#closed;
  }

  /** @internal When the store may be asked, on the monotonic clock. */
  get retryAtMs(): number {
    return this.#retryAtMs;
  }

  /** @internal */
  async send(name: string, seen: BudgetReport, rules: BudgetRules): Promise<FleetBalance> {
    this.#reports += 1;
    try {
      const balance = await answerOf(() => this.#ledger.report(name, seen, rules));
      this.#away = false;
      return balance;
    } catch (error) {
      this.#failed(error);
      throw error;
    }
  }

  #failed(error: unknown): void {
    const nowMs = this.clock.now();
    this.#failures += 1;
    this.#away = true;
    this.#retryAtMs = nowMs + retryMs;
    if (nowMs < this.#reportAtMs) return;
    this.#reportAtMs = nowMs + retryMs;
    reportSafely(this.#report, error, this.#where);
  }
}

const zeros = () => Array.from({ length: ranks }, () => 0);

function bump(counts: number[], rank: number, by: number): void {
  counts[rank] = (counts[rank] ?? 0) + by;
}

const sum = (counts: readonly number[]) => counts.reduce((all, each) => all + each, 0);

/** The calls and extra attempts of all processes in the window: by the last answer, and what this process has seen since. */
class FleetCounts extends CallCounts {
  #calls = zeros();
  #extras = zeros();

  load({ calls, extras }: FleetBalance, since: BudgetReport): void {
    this.#calls = zeros().map((_, rank) => (calls[rank] ?? 0) + (since.calls[rank] ?? 0));
    this.#extras = zeros().map((_, rank) =>
      Math.max(0, (extras[rank] ?? 0) + (since.extras[rank] ?? 0)),
    );
  }

  callsOf(rank: number): number {
    return this.#calls[rank] ?? 0;
  }

  extrasOf(rank: number): number {
    return this.#extras[rank] ?? 0;
  }

  addCall(rank: number): void {
    bump(this.#calls, rank, 1);
  }

  addExtra(rank: number): void {
    bump(this.#extras, rank, 1);
  }

  takeBackExtra(rank: number): void {
    this.#extras[rank] = Math.max(0, this.extrasOf(rank) - 1);
  }
}

/** The budget of all processes for one target, as this process knows it. */
export class FleetBudget {
  readonly #name: string;
  readonly #rules: BudgetRules;
  readonly #shared: SharedRetryBudgets;
  readonly #counts = new FleetCounts();
  readonly #ratio: RatioBudget | undefined;
  readonly #tokens: TokenBudget | undefined;
  /** What this process has seen since the report that is answered next, or was sent last. */
  #seen = { calls: zeros(), extras: zeros(), successes: zeros(), failures: zeros() };
  #processes = 1;
  /** How many extra attempts this process may make until the next answer, and how many it has made. */
  #share = 0;
  #used = 0;
  #knownUntilMs = -Infinity;
  #sentAtMs = -Infinity;
  #sending = false;
  #timer: { readonly dueMs: number; readonly cancel: CancelTask } | undefined;

  constructor(name: string, rules: BudgetRules, shared: SharedRetryBudgets) {
    this.#name = name;
    this.#rules = rules;
    this.#shared = shared;
    const { ratio, maxMilliTokens, milliTokenRatio } = rules;
    this.#ratio = ratio === false ? undefined : new RatioBudget(ratio, rules, this.#counts);
    this.#tokens =
      maxMilliTokens === false
        ? undefined
        : new TokenBudget(maxMilliTokens, milliTokenRatio, this.#counts);
  }

  /** There is an answer that is new enough to decide by. */
  get known(): boolean {
    return this.#shared.clock.now() < this.#knownUntilMs;
  }

  get away(): boolean {
    return this.#shared.away;
  }

  call(rank: number): void {
    this.#counts.addCall(rank);
    bump(this.#seen.calls, rank, 1);
    if (this.#timer === undefined) this.#plan(this.known ? this.#shared.reportMs : 0);
  }

  success(rank: number): void {
    this.#tokens?.success(rank);
    bump(this.#seen.successes, rank, 1);
  }

  failure(rank: number): void {
    this.#tokens?.failure(rank);
    bump(this.#seen.failures, rank, 1);
    if (this.#timer === undefined) this.#plan(this.#shared.reportMs);
  }

  /** Takes an extra attempt from the balance of all. `undefined` when it may start. */
  withdraw(rank: number): RetryBudgetRefusal | undefined {
    const refusal =
      this.#tokens?.refusal(rank) ?? this.#beyondShare() ?? this.#ratio?.withdraw(rank);
    if (refusal === undefined) this.#took(rank);
    return refusal;
  }

  /** This process has allowed an extra attempt by its own budget. */
  addExtra(rank: number): void {
    this.#counts.addExtra(rank);
    this.#took(rank);
  }

  takeBackExtra(rank: number): void {
    this.#counts.takeBackExtra(rank);
    bump(this.#seen.extras, rank, -1);
    this.#used = Math.max(0, this.#used - 1);
  }

  /** Sends no more reports. */
  stop(): void {
    this.#knownUntilMs = -Infinity;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  snapshot(): FleetSnapshot {
    const ratio = this.#ratio?.snapshot();
    const tokens = this.#tokens?.snapshot();
    return {
      known: this.known,
      away: this.away,
      processes: this.#processes,
      ...(ratio && { ratio }),
      ...(tokens && { tokens }),
    };
  }

  #beyondShare(): RetryBudgetRefusal | undefined {
    if (this.#ratio === undefined || this.#used < this.#share) return undefined;
    this.#plan(shortestGapMs);
    const detail = `${this.#used} extra attempts since the last answer of the store; the share of this process was ${this.#share}`;
    return { budget: "ratio", detail };
  }

  #took(rank: number): void {
    bump(this.#seen.extras, rank, 1);
    this.#used += 1;
    this.#plan(this.#used * 2 > this.#share ? shortestGapMs : this.#shared.reportMs);
  }

  /** Sends a report when the last one is so old, or sooner, if one is planned for sooner. */
  #plan(afterMs: number): void {
    if (this.#sending || this.#shared.closed) return;
    const { clock, retryAtMs } = this.#shared;
    const nowMs = clock.now();
    const gapMs = Math.max(afterMs, shortestGapMs);
    const dueMs = Math.max(nowMs, this.#sentAtMs + gapMs, retryAtMs);
    if (this.#timer !== undefined && this.#timer.dueMs <= dueMs) return;
    this.#timer?.cancel();
    const cancel = clock.schedule(dueMs - nowMs, () => this.#send(), { ref: false });
    this.#timer = { dueMs, cancel };
  }

  #send(): void {
    const seen = this.#seen;
    this.#timer = undefined;
    this.#seen = { calls: zeros(), extras: zeros(), successes: zeros(), failures: zeros() };
    this.#used = 0;
    this.#sending = true;
    this.#sentAtMs = this.#shared.clock.now();
    this.#shared.send(this.#name, seen, this.#rules).then(
      (balance) => this.#answered(balance),
      () => this.#settled(-Infinity),
    );
  }

  #answered(balance: FleetBalance): void {
    const { calls, extras, successes, failures } = this.#seen;
    this.#processes = Math.max(1, balance.processes);
    this.#counts.load(balance, { calls, extras, successes, failures });
    this.#tokens?.load(balance.takenBy);
    for (let rank = 0; rank < ranks; rank += 1) {
      for (let n = failures[rank] ?? 0; n > 0; n -= 1) this.#tokens?.failure(rank);
      for (let n = successes[rank] ?? 0; n > 0; n -= 1) this.#tokens?.success(rank);
    }
    const available = this.#ratio?.snapshot().available ?? 0;
    const left = available + Math.max(0, sum(extras));
    this.#share = left < 1 ? 0 : Math.max(1, Math.floor(left / (2 * this.#processes)));
    const { clock, reportMs } = this.#shared;
    this.#settled(clock.now() + Math.max(1_000, 4 * reportMs));
  }

  #settled(knownUntilMs: number): void {
    this.#sending = false;
    this.#knownUntilMs = this.#shared.closed ? -Infinity : knownUntilMs;
    const { calls, extras, failures } = this.#seen;
    if (sum(calls) > 0 || sum(failures) > 0) this.#plan(this.#shared.reportMs);
    if (sum(extras) > 0 && this.#used * 2 > this.#share) this.#plan(shortestGapMs);
  }
}
