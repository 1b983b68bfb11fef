import type { Clock } from "../../core/clock.js";
import { HeardEvents } from "../../core/heard-events.js";
import { Keyed } from "../../core/keyed.js";
import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  ratio,
  readOptions,
} from "../../core/options.js";
import type { Ending } from "../../core/permit.js";
import { SliceRing } from "../../core/stats/slice-ring.js";

/**
 * How much extra load retries and hedges may put on one target. Two budgets work together, and an
 * extra attempt needs both: the ratio bounds what a calm target gets on top of its calls; the tokens
 * stop extra attempts within a few failures when the target breaks.
 */
export interface RetryBudgetOptions {
  /**
   * Extra attempts per call over the window. Above 0, up to 1; `false` switches this budget off.
   * @defaultValue 0.2
   */
  readonly ratio?: number | false;
  /**
   * Extra attempts per second of the window that are allowed on top of `ratio`, so that a client
   * with few calls may retry at all. 0 to 1_000_000. @defaultValue 3
   */
  readonly minPerSecond?: number;
  /** How far back the ratio looks, in tenths. 1_000 ms to 24 days. @defaultValue 10_000 */
  readonly windowMs?: number;
  /**
   * Tokens of gRFC A6: a failure takes one, and extra attempts stop while half of them or fewer are
   * left. 0.001 to 1_000, decimals past the third are ignored; `false` switches this budget off.
   * @defaultValue 100
   */
  readonly maxTokens?: number | false;
  /**
   * Tokens that a success gives back. 0.001 to 1_000, decimals past the third are ignored, as A6 asks.
   * @defaultValue 0.1
   */
  readonly tokenRatio?: number;
}

/** Checked, complete and frozen. Tokens are whole thousandths from here on. */
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
 * Fills in the defaults and refuses nonsense, once, before the first call. The ratio and its reserve
 * are those of Finagle's `RetryBudget`, the tokens those of gRFC A6.
 *
 * @param prefix Path of the options in error messages.
 * @throws InvalidOptionError when an option is unknown or out of range, or when both budgets are off.
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
  // Cut where the number is written in decimals: times 1_000, 0.57 would lose its last thousandth.
  const [whole = "0", decimals = ""] = String(tokens).split(".");
  return Number(whole) * 1_000 + Number(decimals.slice(0, 3).padEnd(3, "0"));
}

/** No extra attempt now. The reason code for it is `RETRY_BUDGET`. */
export interface RetryBudgetRefusal {
  /** Which of the two budgets said no. */
  readonly budget: "ratio" | "tokens";
  /** For a person: the numbers behind it, such as `49.5 of 100 tokens left, more than 50 needed`. */
  readonly detail: string;
}

/** What is known of the event that an attempt failed of, where it may have ended others. */
export interface FailedEvent extends Pick<Ending, "event" | "connectionLost"> {
  /** When the attempt began, on the monotonic clock. */
  readonly startedAtMs: number;
}

/** What a budget knows at one moment. Not live. `allowed` and `refused` only grow. */
export interface RetryBudgetSnapshot {
  /** Within the window. Absent when this budget is off. */
  readonly ratio?: {
    readonly calls: number;
    /** Extra attempts that were allowed and not given back. */
    readonly extras: number;
    /** Extra attempts that would be allowed at once, a whole number. */
    readonly available: number;
  };
  /** Absent when this budget is off. */
  readonly tokens?: { readonly left: number; readonly max: number };
  readonly allowed: number;
  readonly refused: number;
}

/**
 * The extra load that retries and hedges together may put on one target. First attempts are counted
 * and never refused. An extra attempt needs both budgets: the share of calls (Finagle's `RetryBudget`)
 * and the tokens (retry throttling of gRFC A6).
 *
 * No timer runs, and nothing but a refusal allocates.
 */
export class RetryBudget {
  readonly #clock: Pick<Clock, "now">;
  readonly #ratio: RatioBudget | undefined;
  readonly #tokens: TokenBudget | undefined;
  readonly #heard = new HeardEvents();
  /** When an attempt was last told that its connection is lost. */
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

  /** A call began, whatever becomes of it. Its retries and hedges are not calls. */
  call(): void {
    this.#ratio?.deposit(this.#clock.now());
  }

  /** An attempt ended with OK. A6 says a success, and means the status: headers are none yet. */
  success(): void {
    this.#heard.forget();
    this.#tokens?.success();
  }

  /**
   * An attempt failed in a way that counts: with a code that the policy retries, or with a pushback
   * that says stop, whatever the code. Told for the last attempt of a call too. Not for what this
   * process refused itself.
   *
   * @param failed One event takes one token: a lost connection is told to all attempts on it, a failed connect to all
   * that ask until the next.
   */
  failure(failed?: FailedEvent): void {
    if (this.#tokens === undefined || this.#isKnown(failed)) return;
    this.#tokens.failure();
  }

  #isKnown(failed: FailedEvent | undefined): boolean {
    const nowMs = this.#clock.now();
    if (failed?.connectionLost !== true) return this.#heard.isKnown(failed, nowMs);
    const known = failed.startedAtMs <= this.#lostAtMs;
    this.#lostAtMs = nowMs;
    return known;
  }

  /**
   * Asks for one extra attempt. After a failed attempt, tell `failure()` first: A6 looks at the tokens
   * that are left after it. What is allowed is taken; what is refused costs neither budget anything.
   *
   * @returns nothing when the attempt may start.
   */
  tryWithdraw(): RetryBudgetRefusal | undefined {
    // The tokens are only looked at, so asking them first leaves nothing to undo.
    const refusal = this.#tokens?.refusal() ?? this.#ratio?.withdraw(this.#clock.now());
    if (refusal === undefined) this.#allowed += 1;
    else this.#refused += 1;
    return refusal;
  }

  /**
   * Returns what `tryWithdraw` took, once, for an attempt that never started: the call ended during
   * the backoff, or a policy below refused the attempt.
   *
   * @param withdrawnMs When it was taken, on the monotonic clock. After a wait, it matters: what was
   * taken longer ago than the window has expired and gives nothing back. Left out, it was just now.
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
/** What the ring counts: calls, and extra attempts. */
const calls = 0;
const extras = 1;

/** Shares such as 0.29 are no binary fractions: 100 calls of 0.29 must still be worth 29 attempts. */
const tolerance = 1e-9;

/**
 * Calls deposit, extra attempts withdraw, and both are forgotten as they age, a slice of the window
 * at a time. So the extra attempts of any window stay within its own calls and the reserve.
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
    // What has been withdrawn may outlive the deposits it was taken from.
    const available = Math.max(0, Math.floor(this.#balance()));
    return { calls: ring.total(calls), extras: ring.total(extras), available };
  }

  /** In extra attempts. */
  #balance(): number {
    const ring = this.#ring;
    return this.#reserve + ring.total(calls) * this.#ratio - ring.total(extras) + tolerance;
  }
}

/** Whole thousandths of a token, or ten successes of 0.1 would not make one. */
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
