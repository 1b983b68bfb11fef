import { statusCode } from "../../../src/core/status.js";
import { type RetryOptions, resolveRetryOptions } from "../../../src/policies/retry/options.js";
import {
  type FailedAttempt,
  type RetryDecision,
  RetryRules,
} from "../../../src/policies/retry/rules.js";

/** An answer that may be retried, unless a test says otherwise. */
export const unavailable: FailedAttempt = {
  code: statusCode.unavailable,
  origin: "remote",
  attempts: 1,
  trailersOnly: true,
  pushback: undefined,
  retryInfoMs: undefined,
  handlerNotRun: false,
  remainingMs: Number.POSITIVE_INFINITY,
  wanted: undefined,
  relayed: false,
  depth: 0,
  replayable: true,
};

/** Waits of 100, 200, 400 ms and so on, without chance. */
const plainBackoff = { baseMs: 100, maxMs: 10_000, jitter: "none" } as const;

/** The rules for one call, and what they decide about its attempts, in a word each. */
export function rules(options: RetryOptions = {}) {
  const resolved = resolveRetryOptions({ backoff: plainBackoff, maxAttempts: 100, ...options });
  const all = new RetryRules(resolved, () => 0.5);
  const decide = (failed: Partial<FailedAttempt> = {}): RetryDecision =>
    all.decide({ ...unavailable, ...failed });
  const word = (failed: Partial<FailedAttempt> = {}): string | number => {
    const decision = decide(failed);
    return decision.kind === "retry" ? decision.delayMs : decision.reason;
  };
  return { decide, word };
}
