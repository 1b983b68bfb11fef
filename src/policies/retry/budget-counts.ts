import { priorities, usableShare } from "../../core/priority.js";
import { SliceRing } from "../../core/stats/slice-ring.js";

/** The numbers of a retry budget: what it allows. Tokens are counted in whole thousandths. */
export interface BudgetRules {
  readonly ratio: number | false;
  readonly minPerSecond: number;
  readonly windowMs: number;
  readonly maxMilliTokens: number | false;
  readonly milliTokenRatio: number;
}

/** The budget allows no extra attempt now. The reason code is `RETRY_BUDGET`. */
export interface RetryBudgetRefusal {
  /** Which of the two budgets is used up. */
  readonly budget: "ratio" | "tokens";
  /** The numbers behind the refusal, for people: `49.5 of 100 tokens left, more than 50 needed`. */
  readonly detail: string;
}

/**
 * An attempt is `extra` where the target has, or may have, got one of this call before, and a `replacement` where the last one
 * was not sent.
 */
export type AttemptKind = "extra" | "replacement";

/** A window is cut into so many slices, and forgets one at a time. */
export const slices = 10;
export const ranks = priorities.length;
const worst = ranks - 1;

/** 0.29 is no binary fraction; nevertheless 100 calls allow 29 extra attempts. */
const tolerance = 1e-9;

/** How many calls and extra attempts of each priority there are in a window. */
export abstract class CallCounts {
  /** How many calls there are of a rank. */
  abstract callsOf(rank: number): number;
  abstract extrasOf(rank: number): number;
  abstract addExtra(rank: number): void;

  /** How many calls there are of the ranks before this one, which are of higher priority. */
  callsBefore(rank: number): number {
    let sum = 0;
    for (let each = 0; each < rank; each += 1) sum += this.callsOf(each);
    return sum;
  }

  get calls(): number {
    return this.callsBefore(ranks);
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

/** Those of this process. The window moves by a tenth of its length. */
export class CallWindow extends CallCounts {
  /** The calls of each rank, then the extra attempts of each, then the attempts in the place of unsent ones. */
  readonly #ring: SliceRing;
  /** The same calls, with the attempts in the place of unsent ones instead of the extra ones. */
  readonly replacements: CallCounts;

  constructor(windowMs: number) {
    super();
    this.#ring = new SliceRing(windowMs, slices, 3 * ranks);
    this.replacements = new Replacements(this, this.#ring);
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

  takeBack(kind: AttemptKind, rank: number, withdrawnMs: number): void {
    const ring = this.#ring;
    const counter = (kind === "extra" ? ranks : 2 * ranks) + rank;
    let slice = Math.min(ring.newest, ring.sliceAt(withdrawnMs));
    for (; ring.holds(slice); slice -= 1) {
      if (ring.within(slice, counter) > 0) {
        ring.add(counter, -1, slice);
        return;
      }
    }
  }

  callsOf(rank: number): number {
    return this.#ring.total(rank);
  }

  extrasOf(rank: number): number {
    return this.#ring.total(ranks + rank);
  }
}

/** The calls of a window, and the attempts in the place of ones that were not sent. */
class Replacements extends CallCounts {
  readonly #window: CallWindow;
  readonly #ring: SliceRing;

  constructor(window: CallWindow, ring: SliceRing) {
    super();
    this.#window = window;
    this.#ring = ring;
  }

  callsOf(rank: number): number {
    return this.#window.callsOf(rank);
  }

  extrasOf(rank: number): number {
    return this.#ring.total(2 * ranks + rank);
  }

  addExtra(rank: number): void {
    this.#ring.add(2 * ranks + rank);
  }
}

/**
 * Limits the extra attempts of a window by its calls and a reserve. The extra attempts of a priority and of all lower ones
 * together leave what is kept for the higher ones.
 */
export class RatioBudget {
  readonly #ratio: number;
  readonly #reserve: number;
  readonly #windowMs: number;
  readonly #counts: CallCounts;
  readonly #what: string;

  /** @param what The attempts that it limits, for people. */
  constructor(ratio: number, rules: BudgetRules, counts: CallCounts, what = "extra attempts") {
    this.#ratio = ratio;
    this.#what = what;
    this.#windowMs = rules.windowMs;
    this.#counts = counts;
    this.#reserve = (rules.minPerSecond * rules.windowMs) / 1_000;
  }

  withdraw(rank: number): RetryBudgetRefusal | undefined {
    const counts = this.#counts;
    const refusal = this.#refusal(rank);
    if (refusal === undefined) counts.addExtra(rank);
    return refusal;
  }

  #refusal(rank: number): RetryBudgetRefusal | undefined {
    const counts = this.#counts;
    const allowed = this.#allowed;
    let spent = 0;
    for (let each = worst; each >= 0; each -= 1) {
      spent += counts.extrasOf(each);
      if (each > rank) continue;
      const kept = counts.keptBefore(each, allowed);
      if (allowed - kept - spent + tolerance >= 1) continue;
      return { budget: "ratio", detail: this.#detail(each, spent, kept) };
    }
    return undefined;
  }

  #detail(rank: number, spent: number, kept: number): string {
    const allowed = `allowed are ${this.#ratio} per call and ${this.#reserve} more`;
    if (kept === 0) {
      return `${spent} ${this.#what} for ${this.#counts.calls} calls in ${this.#windowMs} ms, ${allowed}`;
    }
    return (
      `${spent} ${this.#what} of ${ofRank(rank)} calls, and ${kept} are kept for higher priorities, ` +
      `for ${this.#counts.calls} calls in ${this.#windowMs} ms, ${allowed}`
    );
  }

  snapshot() {
    const { calls, extras } = this.#counts;
    // Calls may leave the window before the extra attempts that they allowed.
    const available = Math.max(0, Math.floor(this.#allowed - extras + tolerance));
    return { calls, extras, available };
  }

  /** How many extra attempts the calls of the window allow, as a fraction. */
  get #allowed(): number {
    return this.#reserve + this.#counts.calls * this.#ratio;
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
export class TokenBudget {
  readonly #max: number;
  readonly #perSuccess: number;
  readonly #counts: CallCounts;
  #left: number;
  /** What the failures of each rank have taken. Together it is what is missing. */
  readonly #takenBy = Array.from({ length: ranks }, () => 0);

  constructor(maxMilliTokens: number, milliTokenRatio: number, counts: CallCounts) {
    this.#max = maxMilliTokens;
    this.#perSuccess = milliTokenRatio;
    this.#counts = counts;
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
      const kept = this.#counts.keptBefore(each, half / 1_000, 2);
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

  /** Takes over what the failures of each rank have taken, in thousandths of a token. */
  load(takenBy: readonly number[]): void {
    this.#left = this.#max;
    for (let each = 0; each < ranks; each += 1) {
      const taken = Math.min(takenBy[each] ?? 0, this.#left);
      this.#takenBy[each] = taken;
      this.#left -= taken;
    }
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
