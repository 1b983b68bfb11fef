import { Keyed } from "../../core/keyed.js";

/** What a queue needs to know to be fair by use. */
export interface UsageOptions {
  /** What a caller has used counts for half after so many milliseconds. */
  readonly halfLifeMs: number;
  /** Of how many callers an account is kept. */
  readonly maxKeys: number;
}

/** What one caller has used of late, and how many of its calls wait. */
export class CallerUsage {
  /** Tells callers apart that have used the same. */
  readonly number: number;
  /** How many calls of it wait. Its account is not forgotten meanwhile. */
  waiting = 0;
  /** Milliseconds of slots, as they counted in `#period`. */
  #usedMs = 0;
  #period: number;

  constructor(number: number, period: number) {
    this.number = number;
    this.#period = period;
  }

  /** Below 0 when it has used less than another caller. Whose account is older comes first of equals. */
  compare(other: CallerUsage): number {
    const period = Math.max(this.#period, other.#period);
    return this.usedMs(period) - other.usedMs(period) || this.number - other.number;
  }

  /** It has used more than another caller. */
  outweighs(other: CallerUsage): boolean {
    const period = Math.max(this.#period, other.#period);
    return this.usedMs(period) > other.usedMs(period);
  }

  /** What it has used, as it counts in a period. Halving is exact in floating point, so no order changes by waiting. */
  usedMs(period: number): number {
    return this.#usedMs * 0.5 ** (period - this.#period);
  }

  /** Adds milliseconds of a slot. Fewer than 0 take back what was charged too much. */
  add(ms: number, period: number): void {
    this.#usedMs = Math.max(0, this.usedMs(period) + ms);
    this.#period = period;
  }
}

/**
 * Accounts of what callers have used of late: the time for which their calls held slots, halved every half-life. Their number
 * is bounded. Beyond it the caller that was seen longest ago is forgotten, unless a call of it waits.
 */
export class UsageByCaller {
  #halfLifeMs: number;
  /** Half-lives that passed before `#sinceMs`, with the lengths that they had then. */
  #passed = 0;
  #sinceMs = 0;
  readonly #accounts: Keyed<CallerUsage>;
  #made = 0;
  #period = 0;

  constructor({ halfLifeMs, maxKeys }: UsageOptions) {
    this.#halfLifeMs = halfLifeMs;
    this.#accounts = new Keyed(
      () => {
        this.#made += 1;
        return new CallerUsage(this.#made, this.#period);
      },
      maxKeys,
      ({ waiting }) => waiting > 0,
    );
  }

  /** Goes on with another half-life or number of accounts. */
  reconfigure({ halfLifeMs, maxKeys }: UsageOptions, nowMs: number): void {
    // Periods go on from the present one: accounts are compared by them.
    this.#passed = this.#periodAt(nowMs);
    this.#sinceMs = nowMs;
    this.#halfLifeMs = halfLifeMs;
    this.#accounts.resize(maxKeys);
  }

  of(caller: string): CallerUsage {
    return this.#accounts.get(caller);
  }

  charge(usage: CallerUsage, ms: number, nowMs: number): void {
    this.#period = this.#periodAt(nowMs);
    usage.add(ms, this.#period);
  }

  /** What callers have used, as it counts now: the most recently seen first. */
  at(nowMs: number): readonly (readonly [caller: string, usedMs: number])[] {
    const period = this.#periodAt(nowMs);
    return this.#accounts
      .entries()
      .map(([caller, usage]) => [caller, usage.usedMs(period)] as const);
  }

  #periodAt(nowMs: number): number {
    return this.#passed + Math.floor((nowMs - this.#sinceMs) / this.#halfLifeMs);
  }
}
