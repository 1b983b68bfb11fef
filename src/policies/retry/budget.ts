import type { Clock } from "../../core/clock.js";
import type { GaugeLabels, Gauges } from "../../core/gauges.js";
import { Keyed } from "../../core/keyed.js";
import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  ratio,
  readOptions,
  unlessFalse,
} from "../../core/options.js";
import type { Ending } from "../../core/permit.js";
import { type Priority, priorities, priorityRank, usableShare } from "../../core/priority.js";
import { SeenEvents } from "../../core/seen-events.js";
import { SliceRing } from "../../core/stats/slice-ring.js";

/**
 * How much extra load retries and hedges may put on one target. There are two budgets, and an extra attempt needs both:
 * the ratio limits the extra attempts of a target that works; the tokens stop them after a few failures when a target
 * breaks. A part of both is kept for higher priorities.
 */
export interface RetryBudgetOptions {
  /**
   * Extra attempts per call, over the window. Above 0, up to 1; `false` switches this budget off.
   * @defaultValue 0.2
   */
  readonly ratio?: number | false;
  /**
   * Extra attempts per second that are allowed on top of `ratio`, so that a client with few calls can retry. 0 to
   * 1_000_000.
   * @defaultValue 3
   */
  readonly minPerSecond?: number;
  /**
   * The window of the ratio, and of the calls by which a part is kept for higher priorities, in milliseconds. 1_000 to 24
   * days. @defaultValue 10_000
   */
  readonly windowMs?: number;
  /**
   * Tokens (retry throttling in gRFC A6): a failure takes one, and there are no extra attempts while half of them or
   * fewer are left. 0.001 to 1_000, decimals past the third are ignored; `false` switches this budget off.
   * @defaultValue 100
   */
  readonly maxTokens?: number | false;
  /**
   * Tokens that a success gives back. 0.001 to 1_000; decimals past the third are ignored, as gRFC A6 requires.
   * @defaultValue 0.1
   */
  readonly tokenRatio?: number;
}

/** Checked options with defaults. Tokens are counted in whole thousandths. */
export interface ResolvedRetryBudgetOptions {
  readonly ratio: number | false;
  readonly minPerSecond: number;
  readonly windowMs: number;
  readonly maxMilliTokens: number | false;
  readonly milliTokenRatio: number;
}

const defaults = {
  ratio: 0.2,
  minPerSecond: 3,
  windowMs: 10_000,
  maxTokens: 100,
  tokenRatio: 0.1,
} as const satisfies Required<RetryBudgetOptions>;

/**
 * Checks the options and fills in defaults. The default of the ratio and its reserve are those of Finagle's
 * `RetryBudget`.
 *
 * @param prefix The path of the options, for errors.
 * @throws InvalidOptionError naming the option, its rule and what it was given; also when both budgets are off.
 */
export function resolveRetryBudgetOptions(
  given: RetryBudgetOptions = {},
  prefix = "retry.budget",
): ResolvedRetryBudgetOptions {
  const options = readOptions(prefix, given, Object.keys(defaults));
  const {
    ratio: share = defaults.ratio,
    minPerSecond = defaults.minPerSecond,
    windowMs = defaults.windowMs,
    maxTokens = defaults.maxTokens,
    tokenRatio = defaults.tokenRatio,
  } = options;
  if (share === false && maxTokens === false) {
    throw new InvalidOptionError(
      `${prefix}.ratio`,
      "a number above 0 and up to 1 when maxTokens is off too",
      share,
    );
  }
  return Object.freeze({
    ratio: unlessFalse(`${prefix}.ratio`, share, ratio),
    minPerSecond: finiteNumber(`${prefix}.minPerSecond`, minPerSecond, 0, 1_000_000),
    windowMs: durationMs(`${prefix}.windowMs`, windowMs, 1_000),
    maxMilliTokens: unlessFalse(`${prefix}.maxTokens`, maxTokens, milliTokens),
    milliTokenRatio: milliTokens(`${prefix}.tokenRatio`, tokenRatio),
  });
}

function milliTokens(option: string, value: number): number {
  const tokens = finiteNumber(option, value, 0.001, 1_000);
  // From the decimal text, because 0.57 * 1_000 is a little less than 570.
  const [whole = "0", decimals = ""] = String(tokens).split(".");
  return Number(whole) * 1_000 + Number(decimals.slice(0, 3).padEnd(3, "0"));
}

/** The budget allows no extra attempt now. The reason code is `RETRY_BUDGET`. */
export interface RetryBudgetRefusal {
  /** Which of the two budgets is used up. */
  readonly budget: "ratio" | "tokens";
  /** The numbers behind the refusal, for people: `49.5 of 100 tokens left, more than 50 needed`. */
  readonly detail: string;
}

/** The event by which an attempt failed. The same event may have ended other attempts. */
export interface FailedEvent extends Pick<Ending, "event" | "connectionLost"> {
  /** When the attempt started, on the monotonic clock. */
  readonly startedAtMs: number;
}

/** The numbers of a budget at one moment. `allowed` and `refused` only grow. */
export interface RetryBudgetSnapshot {
  /** In the window. Absent when this budget is off. */
  readonly ratio?: {
    readonly calls: number;
    /** Extra attempts that were allowed and not given back. */
    readonly extras: number;
    /** How many extra attempts would be allowed now. A part of them may be kept for higher priorities. */
    readonly available: number;
  };
  /** Absent when this budget is off. */
  readonly tokens?: { readonly left: number; readonly max: number };
  readonly allowed: number;
  readonly refused: number;
}

/**
 * Limits the extra load that retries and hedges together put on one target. First attempts are counted and never
 * refused. An extra attempt needs both budgets: the ratio of calls (Finagle's `RetryBudget`) and the tokens (retry
 * throttling of gRFC A6).
 *
 * Lower priorities fail first when a server sheds load, and would use up a budget before higher ones need it. So a part
 * of both budgets is kept for the higher priorities among the calls of the window, see {@link CallWindow.keptBefore}.
 * What is allowed in total does not depend on priorities.
 *
 * It has no timer, and allocates only when it refuses.
 */
export class RetryBudget {
  readonly #clock: Pick<Clock, "now">;
  readonly #window: CallWindow;
  readonly #ratio: RatioBudget | undefined;
  readonly #tokens: TokenBudget | undefined;
  readonly #seenEvents = new SeenEvents();
  /** When an attempt last ended with its connection. */
  #lostAtMs = Number.NEGATIVE_INFINITY;
  #allowed = 0;
  #refused = 0;

  constructor(options: ResolvedRetryBudgetOptions, clock: Pick<Clock, "now">) {
    const { ratio, maxMilliTokens } = options;
    this.#clock = clock;
    this.#window = new CallWindow(options.windowMs);
    this.#ratio = ratio === false ? undefined : new RatioBudget(ratio, options, this.#window);
    this.#tokens =
      maxMilliTokens === false
        ? undefined
        : new TokenBudget(maxMilliTokens, options.milliTokenRatio, this.#window);
  }

  /** A call starts. Its retries and hedges are not calls. */
  call(priority: Priority = "normal", nowMs = this.#clock.now()): void {
    this.#window.call(priorityRank[priority], nowMs);
  }

  /** An attempt ended with OK. */
  success(priority: Priority = "normal"): void {
    this.#seenEvents.forget();
    this.#tokens?.success(priorityRank[priority]);
  }

  /**
   * An attempt failed with a code that may be retried, or with a pushback that asks for no retry. Also called for the
   * last attempt of a call, and not for refusals by this process.
   *
   * @param failed One event takes one token: a lost connection ends all attempts on it, and a failed connect ends all
   *   attempts until the next connect.
   */
  failure(failed?: FailedEvent, priority: Priority = "normal"): void {
    if (this.#tokens === undefined || this.#isKnown(failed)) return;
    this.#tokens.failure(priorityRank[priority]);
  }

  #isKnown(failed: FailedEvent | undefined): boolean {
    const nowMs = this.#clock.now();
    if (failed?.connectionLost !== true) return this.#seenEvents.isKnown(failed, nowMs);
    const known = failed.startedAtMs <= this.#lostAtMs;
    this.#lostAtMs = nowMs;
    return known;
  }

  /**
   * Takes one extra attempt from the budget. After a failed attempt call `failure()` first: gRFC A6 counts the tokens
   * that are left after it. A refusal takes nothing.
   *
   * @returns `undefined` when the attempt may start.
   */
  tryWithdraw(priority: Priority = "normal"): RetryBudgetRefusal | undefined {
    const rank = priorityRank[priority];
    this.#window.advance(this.#clock.now());
    // The tokens first, because an extra attempt takes none of them: nothing has to be given back if the ratio refuses.
    const refusal = this.#tokens?.refusal(rank) ?? this.#ratio?.withdraw(rank);
    if (refusal === undefined) this.#allowed += 1;
    else this.#refused += 1;
    return refusal;
  }

  /**
   * Gives back, once, what `tryWithdraw` took, for an attempt that was not sent: the call ended during the backoff, or
   * a policy below refused the attempt.
   *
   * @param withdrawnMs When it was taken, on the monotonic clock. Longer ago than the window, nothing is given back.
   * @defaultValue now
   */
  giveBack(withdrawnMs = this.#clock.now(), priority: Priority = "normal"): void {
    if (this.#ratio === undefined) return;
    this.#window.advance(this.#clock.now());
    this.#window.takeBackExtra(priorityRank[priority], withdrawnMs);
  }

  /** Tells what is left: extra attempts of the ratio, and tokens above the half that must be left. */
  measure(gauges: Gauges, labels: GaugeLabels): void {
    const { ratio, tokens } = this.snapshot();
    if (ratio !== undefined) gauges.note("budget", ratio.available, { ...labels, budget: "ratio" });
    if (tokens === undefined) return;
    const left = Math.max(0, tokens.left - tokens.max / 2);
    gauges.note("budget", left, { ...labels, budget: "tokens" });
  }

  snapshot(): RetryBudgetSnapshot {
    this.#window.advance(this.#clock.now());
    const ratio = this.#ratio?.snapshot();
    const tokens = this.#tokens?.snapshot();
    return {
      ...(ratio && { ratio }),
      ...(tokens && { tokens }),
      allowed: this.#allowed,
      refused: this.#refused,
    };
  }
}

const slices = 10;
const ranks = priorities.length;
const worst = ranks - 1;

/** 0.29 is no binary fraction; nevertheless 100 calls allow 29 extra attempts. */
const tolerance = 1e-9;

/** The calls and extra attempts of each priority in a window, which moves by a tenth of its length. */
class CallWindow {
  /** The calls of each rank, then the extra attempts of each. */
  readonly #ring: SliceRing;

  constructor(windowMs: number) {
    this.#ring = new SliceRing(windowMs, slices, 2 * ranks);
  }

  advance(nowMs: number): void {
    this.#ring.advance(nowMs);
  }

  call(rank: number, nowMs: number): void {
    this.#ring.advance(nowMs);
    this.#ring.add(rank);
  }

  addExtra(rank: number): void {
    this.#ring.add(ranks + rank);
  }

  takeBackExtra(rank: number, withdrawnMs: number): void {
    const ring = this.#ring;
    let slice = Math.min(ring.newest, ring.sliceAt(withdrawnMs));
    for (; ring.holds(slice); slice -= 1) {
      if (ring.within(slice, ranks + rank) > 0) {
        ring.add(ranks + rank, -1, slice);
        return;
      }
    }
  }

  /** How many calls there are of the ranks before this one, which are of higher priority. */
  callsBefore(rank: number): number {
    let sum = 0;
    for (let each = 0; each < rank; each += 1) sum += this.#ring.total(each);
    return sum;
  }

  get calls(): number {
    return this.callsBefore(ranks);
  }

  extrasOf(rank: number): number {
    return this.#ring.total(ranks + rank);
  }

  get extras(): number {
    let sum = 0;
    for (let each = 0; each < ranks; each += 1) sum += this.extrasOf(each);
    return sum;
  }

  /**
   * How many of `amount` are kept for the calls before this rank, in whole numbers. It is the larger of
   *
   * - the share that these calls have in all calls of the window;
   * - the share that admission keeps for them by default, but no more than one extra attempt of each of them needs: so that a
   *   few critical calls among many others find more than their share of the calls.
   *
   * Nothing is kept for a priority that nobody uses.
   *
   * @param perExtra How many an extra attempt needs.
   */
  keptBefore(rank: number, amount: number, perExtra = 1): number {
    const before = this.callsBefore(rank);
    const priority = priorities[rank];
    if (before === 0 || priority === undefined) return 0;
    const byCalls = (amount * before) / this.calls;
    const byAdmission = Math.min(amount * (1 - usableShare[priority]), before * perExtra);
    return Math.floor(Math.max(byCalls, byAdmission) + tolerance);
  }
}

/**
 * Limits the extra attempts of a window by its calls and a reserve. The extra attempts of a priority and of all lower ones
 * together leave what is kept for the higher ones.
 */
class RatioBudget {
  readonly #ratio: number;
  readonly #reserve: number;
  readonly #windowMs: number;
  readonly #window: CallWindow;

  constructor(ratio: number, options: ResolvedRetryBudgetOptions, window: CallWindow) {
    this.#ratio = ratio;
    this.#windowMs = options.windowMs;
    this.#window = window;
    this.#reserve = (options.minPerSecond * options.windowMs) / 1_000;
  }

  withdraw(rank: number): RetryBudgetRefusal | undefined {
    const window = this.#window;
    const refusal = this.#refusal(rank);
    if (refusal === undefined) window.addExtra(rank);
    return refusal;
  }

  #refusal(rank: number): RetryBudgetRefusal | undefined {
    const window = this.#window;
    const allowed = this.#allowed;
    let spent = 0;
    for (let each = worst; each >= 0; each -= 1) {
      spent += window.extrasOf(each);
      if (each > rank) continue;
      const kept = window.keptBefore(each, allowed);
      if (allowed - kept - spent + tolerance >= 1) continue;
      return { budget: "ratio", detail: this.#detail(each, spent, kept) };
    }
    return undefined;
  }

  #detail(rank: number, spent: number, kept: number): string {
    const allowed = `allowed are ${this.#ratio} per call and ${this.#reserve} more`;
    if (kept === 0) {
      return `${spent} extra attempts for ${this.#window.calls} calls in ${this.#windowMs} ms, ${allowed}`;
    }
    return (
      `${spent} extra attempts of ${ofRank(rank)} calls, and ${kept} are kept for higher priorities, ` +
      `for ${this.#window.calls} calls in ${this.#windowMs} ms, ${allowed}`
    );
  }

  snapshot() {
    const { calls, extras } = this.#window;
    // Calls may leave the window before the extra attempts that they allowed.
    const available = Math.max(0, Math.floor(this.#allowed - extras + tolerance));
    return { calls, extras, available };
  }

  /** How many extra attempts the calls of the window allow, as a fraction. */
  get #allowed(): number {
    return this.#reserve + this.#window.calls * this.#ratio;
  }
}

/** The calls of a rank and of all behind it, for people. */
function ofRank(rank: number): string {
  return rank === worst ? "low" : `${priorities[rank]} and lower`;
}

/**
 * Counts whole thousandths of a token, because ten times 0.1 is not 1 in binary fractions.
 *
 * It remembers which priority's failures took the tokens. From the half that extra attempts need, the failures of a
 * priority and of all lower ones take nothing that is kept for the higher ones. Beyond that they stop their own extra
 * attempts only.
 */
class TokenBudget {
  readonly #max: number;
  readonly #perSuccess: number;
  readonly #window: CallWindow;
  #left: number;
  /** What the failures of each rank have taken. Together it is what is missing. */
  readonly #takenBy = Array.from({ length: ranks }, () => 0);

  constructor(maxMilliTokens: number, milliTokenRatio: number, window: CallWindow) {
    this.#max = maxMilliTokens;
    this.#perSuccess = milliTokenRatio;
    this.#window = window;
    this.#left = maxMilliTokens;
  }

  /** Gives back what this rank has taken, then what others have, the highest priority first. */
  success(rank: number): void {
    if (this.#left === this.#max) return;
    let rest = this.#perSuccess - this.#return(rank, this.#perSuccess);
    for (let each = 0; each < ranks && rest > 0; each += 1) rest -= this.#return(each, rest);
  }

  /** Takes a token. When none is left, it counts for this rank instead of a lower priority. */
  failure(rank: number): void {
    for (let each = worst; each > rank && this.#left < 1_000; each -= 1) {
      this.#return(each, 1_000 - this.#left);
    }
    const taken = Math.min(1_000, this.#left);
    this.#left -= taken;
    this.#takenBy[rank] = this.#takenOf(rank) + taken;
  }

  refusal(rank: number): RetryBudgetRefusal | undefined {
    // The usual case: it would allow an extra attempt to any rank.
    if (this.#left === this.#max) return undefined;
    const half = this.#max / 2;
    let taken = 0;
    for (let each = worst; each >= 0; each -= 1) {
      // Two for an extra attempt: the failure before it has taken one, and one more has to be left.
      const kept = this.#window.keptBefore(each, half / 1_000, 2);
      const usable = half - kept * 1_000;
      taken += this.#takenOf(each);
      if (taken < usable) continue;
      if (each <= rank) return { budget: "tokens", detail: this.#detail(each, taken, kept) };
      taken = usable;
    }
    return undefined;
  }

  #detail(rank: number, taken: number, kept: number): string {
    const { left, max } = this.snapshot();
    const needed = `more than ${this.#max / 2_000} needed`;
    if (kept === 0) return `${left} of ${max} tokens left, ${needed}`;
    return (
      `failures of ${ofRank(rank)} calls have taken ${taken / 1_000} of ${max} tokens, ${needed}, ` +
      `and ${kept} are kept for higher priorities`
    );
  }

  snapshot() {
    return { left: this.#left / 1_000, max: this.#max / 1_000 };
  }

  #takenOf(rank: number): number {
    return this.#takenBy[rank] ?? 0;
  }

  /** Returns up to `most` of what a rank has taken, and answers how much that was. */
  #return(rank: number, most: number): number {
    const taken = this.#takenOf(rank);
    const returned = Math.min(taken, most);
    this.#takenBy[rank] = taken - returned;
    this.#left += returned;
    return returned;
  }
}

/**
 * The retry budgets of a weir, by target. All clients with equal options share them: a target cannot serve more extra
 * attempts because several clients call it.
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

/** The numbers of all budgets, by target. */
export function budgetSnapshots(
  budgets: Keyed<RetryBudget> | undefined,
): Readonly<Record<string, RetryBudgetSnapshot>> {
  const entries = [...(budgets?.entries() ?? [])];
  return Object.fromEntries(entries.map(([target, budget]) => [target, budget.snapshot()]));
}
