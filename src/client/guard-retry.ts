import type { Mode } from "../core/mode.js";
import { optionalFunction, readOptions } from "../core/options.js";
import type { ControlledPolicy } from "../core/policy-control.js";
import type { Random } from "../core/random.js";
import { type FailedAttempt, RetryRules } from "../core/retry.js";
import { RetryBudget } from "../core/retry-budget.js";
import { type ResolvedRetryOptions, resolveRetryOptions } from "../core/retry-options.js";
import { statusCode } from "../core/status-code.js";
import { ask, type ReportError, yesOrNo } from "../core/user-code.js";
import { rejectionOf } from "../grpc/rejection.js";
import type { GuardRetryOptions } from "./guard-options.js";
import { type GuardScope, refusedHere, takeMode } from "./guard-policies.js";
import { isAbort } from "./guard-signal.js";
import type { RetrySnapshot } from "./retry-policy.js";

const known = [
  "mode",
  "maxAttempts",
  "backoff",
  "retryError",
  "maxDepth",
  "budget",
] as const satisfies readonly (keyof GuardRetryOptions)[];

/** Extra attempts of guarded work: the rules and budgets of calls, with a judgement of errors instead of statuses. */
export class GuardRetry implements ControlledPolicy {
  mode: Mode;
  /** How often each decision was taken, observed ones included. */
  readonly counts = { retried: 0, stopped: 0 };
  readonly budget: RetryBudget | undefined;
  readonly #name: string;
  readonly #options: ResolvedRetryOptions;
  readonly #random: Random;
  readonly #report: ReportError;
  readonly #retryError: GuardRetryOptions["retryError"];

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(given: GuardRetryOptions, scope: GuardScope, prefix: string) {
    const options = readOptions(prefix, given, known);
    const { mode, rest } = takeMode(options, prefix);
    const { retryError, ...own } = rest;
    this.mode = mode;
    // Who asks for retries says by that that running the work twice does no harm.
    this.#options = resolveRetryOptions({ ...own, idempotent: true }, prefix);
    this.#retryError = optionalFunction(`${prefix}.retryError`, retryError);
    const { budget } = this.#options;
    this.budget = budget === undefined ? undefined : new RetryBudget(budget, scope.clock);
    this.#name = scope.name;
    this.#random = scope.random;
    this.#report = scope.report;
  }

  /** The rules for one run. */
  rules(): RetryRules {
    return new RetryRules(this.#options, this.#random);
  }

  /** What the rules go by. */
  judge(
    error: unknown,
    run: {
      readonly attempts: number;
      readonly remainingMs: number;
      readonly usualMs: number | undefined;
      readonly depth: number;
    },
  ): FailedAttempt {
    const local = refusedHere(error);
    return {
      ...run,
      code: statusCode.unavailable,
      origin: local ? "local-policy" : "remote",
      wanted: !local && this.#wanted(error),
      idempotent: true,
      trailersOnly: true,
      handlerNotRun: false,
      pushback: undefined,
      retryInfoMs: rejectionOf(error)?.retryAfterMs,
      replayable: true,
    };
  }

  snapshot(): RetrySnapshot {
    const { budget, counts } = this;
    return { ...counts, budgets: budget === undefined ? {} : { [this.#name]: budget.snapshot() } };
  }

  #wanted(error: unknown): boolean {
    const retryError = this.#retryError;
    if (retryError === undefined) return !isAbort(error);
    return ask(() => retryError(error), yesOrNo, false, this.#report, "guard.retry.retryError");
  }
}
