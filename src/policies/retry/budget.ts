import type { Clock } from "../../core/clock.js";
import { Keyed } from "../../core/keyed.js";
import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  ratio,
  readOptions,
} from "../../core/options.js";
import type { Ending } from "../../core/permit.js";
import { SeenEvents } from "../../core/seen-events.js";
import { SliceRing } from "../../core/stats/slice-ring.js";

/**
 * How much extra load retries and hedges may put on one target. There are two budgets, and an extra attempt needs both:
 * the ratio limits the extra attempts of a target that works; the tokens stop them after a few failures when a target
 * breaks.
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
  /** The window of the ratio, in milliseconds. 1_000 to 24 days. @defaultValue 10_000 */
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
    ratio: share !== false && ratio(`${prefix}.ratio`, share),
    minPerSecond: finiteNumber(`${prefix}.minPerSecond`, minPerSecond, 0, 1_000_000),
    windowMs: durationMs(`${prefix}.windowMs`, windowMs, 1_000),
    maxMilliTokens: maxTokens !== false && milliTokens(`${prefix}.maxTokens`, maxTokens),
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
    /** How many extra attempts would be allowed now. */
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
 * It has no timer, and allocates only when it refuses.
 */
export class RetryBudget {
  readonly #clock: Pick<Clock, "now">;
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
    this.#ratio = ratio === false ? undefined : new RatioBudget(ratio, options);
    this.#tokens =
      maxMilliTokens === false
        ? undefined
        : new TokenBudget(maxMilliTokens, options.milliTokenRatio);
  }

  /** A call starts. Its retries and hedges are not calls. */
  call(): void {
    this.#ratio?.deposit(this.#clock.now());
  }

  /** An attempt ended with OK. */
  success(): void {
    this.#seenEvents.forget();
    this.#tokens?.success();
  }

  /**
   * An attempt failed with a code that may be retried, or with a pushback that asks for no retry. Also called for the
   * last attempt of a call, and not for refusals by this process.
   *
   * @param failed One event takes one token: a lost connection ends all attempts on it, and a failed connect ends all
   *   attempts until the next connect.
   */
  failure(failed?: FailedEvent): void {
    if (this.#tokens === undefined || this.#isKnown(failed)) return;
    this.#tokens.failure();
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
  tryWithdraw(): RetryBudgetRefusal | undefined {
    // The tokens first, because an extra attempt takes none of them: nothing has to be given back if the ratio refuses.
    const refusal = this.#tokens?.refusal() ?? this.#ratio?.withdraw(this.#clock.now());
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
  giveBack(withdrawnMs = this.#clock.now()): void {
    this.#ratio?.giveBack(withdrawnMs, this.#clock.now());
  }

  snapshot(): RetryBudgetSnapshot {
    const ratio = this.#ratio?.snapshot(this.#clock.now());
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
/** The two counters of the ring: calls, and extra attempts. */
const calls = 0;
const extras = 1;

/** 0.29 is no binary fraction; nevertheless 100 calls allow 29 extra attempts. */
const tolerance = 1e-9;

/**
 * Counts calls and extra attempts in a window, which moves by a tenth of its length. So the extra attempts of any
 * window are limited by the calls of that window and the reserve.
 */
class RatioBudget {
  readonly #ratio: number;
  readonly #reserve: number;
  readonly #windowMs: number;
  readonly #ring: SliceRing;

  constructor(ratio: number, options: ResolvedRetryBudgetOptions) {
    this.#ratio = ratio;
    this.#windowMs = options.windowMs;
    this.#ring = new SliceRing(options.windowMs, slices, 2);
    this.#reserve = (options.minPerSecond * options.windowMs) / 1_000;
  }

  deposit(nowMs: number): void {
    this.#ring.advance(nowMs);
    this.#ring.add(calls);
  }

  withdraw(nowMs: number): RetryBudgetRefusal | undefined {
    const ring = this.#ring;
    ring.advance(nowMs);
    if (this.#balance() < 1) {
      return {
        budget: "ratio",
        detail:
          `${ring.total(extras)} extra attempts for ${ring.total(calls)} calls in ${this.#windowMs} ms, ` +
          `allowed are ${this.#ratio} per call and ${this.#reserve} more`,
      };
    }
    ring.add(extras);
    return undefined;
  }

  giveBack(withdrawnMs: number, nowMs: number): void {
    const ring = this.#ring;
    ring.advance(nowMs);
    let slice = Math.min(ring.newest, ring.sliceAt(withdrawnMs));
    for (; ring.holds(slice); slice -= 1) {
      if (ring.within(slice, extras) > 0) {
        ring.add(extras, -1, slice);
        return;
      }
    }
  }

  snapshot(nowMs: number) {
    const ring = this.#ring;
    ring.advance(nowMs);
    // Calls may leave the window before the extra attempts that they allowed.
    const available = Math.max(0, Math.floor(this.#balance()));
    return { calls: ring.total(calls), extras: ring.total(extras), available };
  }

  /** How many more extra attempts the window allows, as a fraction. */
  #balance(): number {
    const ring = this.#ring;
    return this.#reserve + ring.total(calls) * this.#ratio - ring.total(extras) + tolerance;
  }
}

/** Counts whole thousandths of a token, because ten times 0.1 is not 1 in binary fractions. */
class TokenBudget {
  readonly #max: number;
  readonly #perSuccess: number;
  #left: number;

  constructor(maxMilliTokens: number, milliTokenRatio: number) {
    this.#max = maxMilliTokens;
    this.#perSuccess = milliTokenRatio;
    this.#left = maxMilliTokens;
  }

  success(): void {
    this.#left = Math.min(this.#max, this.#left + this.#perSuccess);
  }

  failure(): void {
    this.#left = Math.max(0, this.#left - 1_000);
  }

  refusal(): RetryBudgetRefusal | undefined {
    if (this.#left * 2 > this.#max) return undefined;
    const { left, max } = this.snapshot();
    return {
      budget: "tokens",
      detail: `${left} of ${max} tokens left, more than ${this.#max / 2_000} needed`,
    };
  }

  snapshot() {
    return { left: this.#left / 1_000, max: this.#max / 1_000 };
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
