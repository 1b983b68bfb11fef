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
import { type Priority, priorityRank } from "../../core/priority.js";
import { SeenEvents } from "../../core/seen-events.js";
import { WeakMemo } from "../../core/weak-memo.js";
import {
  type AttemptKind,
  type BudgetRules,
  CallWindow,
  RatioBudget,
  type RetryBudgetRefusal,
  TokenBudget,
} from "./budget-counts.js";
import type { FleetBudget, FleetSnapshot, SharedRetryBudgets } from "./shared-budget.js";

/**
 * How much extra load retries and hedges may put on one target. There are two budgets, and an extra attempt needs both:
 * the ratio limits the extra attempts of a target that works; the tokens stop them after a few failures when a target
 * breaks. A part of both is kept for higher priorities.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/retries.md
 */
export interface RetryBudgetOptions {
  /**
   * Extra attempts per call, over the window. Above 0, up to 1; `false` switches this budget off. An attempt after one that was
   * not sent, because there was no connection, is no extra one: there may be as many of those, counted by themselves.
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
  /**
   * Shares the budget of a target with other processes, such as `redisRetryBudgets` of `grpc-weir/redis`: with all that have
   * equal numbers here. `ratio`, `minPerSecond` and `maxTokens` are then those of all of them together.
   * @defaultValue each process has a budget of its own
   */
  readonly share?: SharedRetryBudgets;
}

/** Checked options with defaults. */
export interface ResolvedRetryBudgetOptions extends BudgetRules {
  readonly share: SharedRetryBudgets | undefined;
}

const defaults = {
  ratio: 0.2,
  minPerSecond: 3,
  windowMs: 10_000,
  maxTokens: 100,
  tokenRatio: 0.1,
} as const satisfies Required<Omit<RetryBudgetOptions, "share">>;

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
  const options = readOptions(prefix, given, [...Object.keys(defaults), "share"]);
  const {
    ratio: share = defaults.ratio,
    minPerSecond = defaults.minPerSecond,
    windowMs = defaults.windowMs,
    maxTokens = defaults.maxTokens,
    tokenRatio = defaults.tokenRatio,
    share: shared,
  } = options;
  if (share === false && maxTokens === false) {
    throw new InvalidOptionError(
      `${prefix}.ratio`,
      "a number above 0 and up to 1 when maxTokens is off too",
      share,
    );
  }
  // By its method and not by its class, whose code only those bundle who share budgets.
  if (shared !== undefined && typeof shared?.join !== "function") {
    throw new InvalidOptionError(`${prefix}.share`, "made by redisRetryBudgets", shared);
  }
  return Object.freeze({
    ratio: unlessFalse(`${prefix}.ratio`, share, ratio),
    minPerSecond: finiteNumber(`${prefix}.minPerSecond`, minPerSecond, 0, 1_000_000),
    windowMs: durationMs(`${prefix}.windowMs`, windowMs, 1_000),
    maxMilliTokens: unlessFalse(`${prefix}.maxTokens`, maxTokens, milliTokens),
    milliTokenRatio: milliTokens(`${prefix}.tokenRatio`, tokenRatio),
    share: shared,
  });
}

function milliTokens(option: string, value: number): number {
  const tokens = finiteNumber(option, value, 0.001, 1_000);
  // From the decimal text, because 0.57 * 1_000 is a little less than 570.
  const [whole = "0", decimals = ""] = String(tokens).split(".");
  return Number(whole) * 1_000 + Number(decimals.slice(0, 3).padEnd(3, "0"));
}

/** The event by which an attempt failed. The same event may have ended other attempts. */
export interface FailedEvent extends Pick<Ending, "event" | "connectionLost"> {
  /** When the attempt started, on the monotonic clock. */
  readonly startedAtMs: number;
}

/**
 * The numbers of a budget at one moment. `allowed` and `refused` only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/retries.md
 */
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
  /** What all processes that share the budget have together. Absent where none do. */
  readonly fleet?: FleetSnapshot;
  readonly allowed: number;
  readonly refused: number;
}

const storeAway = Object.freeze({ reason: "STORE_AWAY" });

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
  /** Of attempts in the place of ones that were not sent. */
  readonly #replacements: RatioBudget | undefined;
  readonly #tokens: TokenBudget | undefined;
  /** The same for all processes that share the budget. */
  readonly #fleet: FleetBudget | undefined;
  readonly #seenEvents = new SeenEvents();
  /** When an attempt last ended with its connection. */
  #lostAtMs = Number.NEGATIVE_INFINITY;
  #allowed = 0;
  #refused = 0;

  /** @param name What it is the budget of: the target, or the guard. */
  constructor(options: ResolvedRetryBudgetOptions, clock: Pick<Clock, "now">, name = "") {
    const { ratio, maxMilliTokens } = options;
    this.#clock = clock;
    this.#window = new CallWindow(options.windowMs);
    if (ratio !== false) {
      const { replacements } = this.#window;
      const what = "attempts after ones that were not sent";
      this.#ratio = new RatioBudget(ratio, options, this.#window);
      this.#replacements = new RatioBudget(ratio, options, replacements, what);
    }
    this.#tokens =
      maxMilliTokens === false
        ? undefined
        : new TokenBudget(maxMilliTokens, options.milliTokenRatio, this.#window);
    this.#fleet = options.share?.join(name, options);
  }

  /**
   * For decisions to make an extra attempt: the reason, where the budget is shared and decides by what this process knows, because
   * the store is away.
   */
  get reason(): { readonly reason: "STORE_AWAY" } | undefined {
    return this.#fleet?.away === true ? storeAway : undefined;
  }

  /** A call starts. Its retries and hedges are not calls. */
  call(priority: Priority = "normal", nowMs = this.#clock.now()): void {
    const rank = priorityRank[priority];
    this.#window.call(rank, nowMs);
    this.#fleet?.call(rank);
  }

  /** An attempt ended with OK. */
  success(priority: Priority = "normal"): void {
    const rank = priorityRank[priority];
    this.#seenEvents.forget();
    this.#tokens?.success(rank);
    this.#fleet?.success(rank);
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
    const rank = priorityRank[priority];
    this.#tokens.failure(rank);
    this.#fleet?.failure(rank);
  }

  #isKnown(failed: FailedEvent | undefined): boolean {
    const nowMs = this.#clock.now();
    if (failed?.connectionLost !== true) return this.#seenEvents.isKnown(failed, nowMs);
    const known = failed.startedAtMs <= this.#lostAtMs;
    this.#lostAtMs = nowMs;
    return known;
  }

  /**
   * Takes one attempt from the budget. A `replacement` is no extra load for the target, and no extra attempt. But all that wait
   * for a connection are sent together when it is there, so that there are no more of them than there may be extra attempts; what
   * other processes have does not matter for that. After a failed attempt call `failure()` first: gRFC A6 counts the tokens
   * that are left after it. A refusal takes nothing.
   *
   * @returns `undefined` when the attempt may start.
   */
  tryWithdraw(
    priority: Priority = "normal",
    kind: AttemptKind = "extra",
  ): RetryBudgetRefusal | undefined {
    const rank = priorityRank[priority];
    this.#window.advance(this.#clock.now());
    const refusal =
      kind === "extra"
        ? this.#refusal(rank)
        : (this.#tokens?.refusal(rank) ?? this.#replacements?.withdraw(rank));
    if (refusal === undefined) this.#allowed += 1;
    else this.#refused += 1;
    return refusal;
  }

  /** By what the fleet has, as far as that is known, and else by what this process has. Counts the attempt in both. */
  #refusal(rank: number): RetryBudgetRefusal | undefined {
    if (this.#fleet?.known === true) {
      const refusal = this.#fleet.withdraw(rank);
      if (refusal === undefined) this.#window.addExtra(rank);
      return refusal;
    }
    // The tokens first, because an extra attempt takes none of them: nothing has to be given back if the ratio refuses.
    const refusal = this.#tokens?.refusal(rank) ?? this.#ratio?.withdraw(rank);
    if (refusal === undefined) this.#fleet?.addExtra(rank);
    else if (this.#fleet?.away === true) {
      return { ...refusal, detail: `${refusal.detail}; of this process alone, the store is away` };
    }
    return refusal;
  }

  /**
   * Gives back, once, what `tryWithdraw` took, for an attempt that was not sent: the call ended during the backoff, or
   * a policy below refused the attempt.
   *
   * @param withdrawnMs When it was taken, on the monotonic clock. Longer ago than the window, nothing is given back.
   * @defaultValue now
   */
  giveBack(
    withdrawnMs = this.#clock.now(),
    priority: Priority = "normal",
    kind: AttemptKind = "extra",
  ): void {
    if (this.#ratio === undefined) return;
    const rank = priorityRank[priority];
    this.#window.advance(this.#clock.now());
    this.#window.takeBack(kind, rank, withdrawnMs);
    if (kind === "extra") this.#fleet?.takeBackExtra(rank);
  }

  /** Tells what is left: extra attempts of the ratio, and tokens above the half that must be left. */
  measure(gauges: Gauges, labels: GaugeLabels): void {
    const { fleet, ...own } = this.snapshot();
    const { ratio, tokens } = fleet?.known === true ? fleet : own;
    if (fleet !== undefined) {
      const { side } = labels;
      gauges.note("storeAway", fleet.away ? 1 : 0, { policy: "retry", ...(side && { side }) });
    }
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
      ...(this.#fleet && { fleet: this.#fleet.snapshot() }),
      allowed: this.#allowed,
      refused: this.#refused,
    };
  }
}

/**
 * The retry budgets of a weir, by target. All clients with equal options share them: a target cannot serve more extra
 * attempts because several clients call it.
 */
export class BudgetStore {
  readonly #clock: Clock;
  readonly #byOptions = new Map<SharedRetryBudgets | undefined, WeakMemo<Keyed<RetryBudget>>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The budgets with these options, by target. */
  of(options: ResolvedRetryBudgetOptions): Keyed<RetryBudget> {
    const { share, ...numbers } = options;
    const shared = this.#byOptions.get(share) ?? new WeakMemo<Keyed<RetryBudget>>();
    this.#byOptions.set(share, shared);
    const make = () => new Keyed((target: string) => new RetryBudget(options, this.#clock, target));
    return shared.of(JSON.stringify(numbers), make);
  }
}

/** The numbers of all budgets, by target. */
export function budgetSnapshots(
  budgets: Keyed<RetryBudget> | undefined,
): Readonly<Record<string, RetryBudgetSnapshot>> {
  const entries = [...(budgets?.entries() ?? [])];
  return Object.fromEntries(entries.map(([target, budget]) => [target, budget.snapshot()]));
}
