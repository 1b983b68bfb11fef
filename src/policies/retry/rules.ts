import type { Random } from "../../core/clock.js";
import type { Reason } from "../../core/decision.js";
import { pauseMs } from "../../core/pause.js";
import { inMs } from "../../core/rounded.js";
import { type StatusOrigin, statusCode } from "../../core/status.js";
import type { AttemptKind } from "./budget-counts.js";
import type { ResolvedRetryOptions } from "./options.js";

/** A longer wait that a server asks for, in milliseconds, is not waited for: the call is not retried. */
const longestNamedWaitMs = 300_000;

/** What is known of a failed attempt when the next one is decided on. */
export interface FailedAttempt {
  /** The code by which the failure counts. It differs from the status's code where a transport ended the attempt. */
  readonly code: number;
  readonly origin: StatusOrigin;
  /** How many attempts the call has had, this one included. */
  readonly attempts: number;
  /** There were no response headers before the status: the server had not begun to answer. */
  readonly trailersOnly: boolean;
  /** `grpc-retry-pushback-ms`: the exact wait in milliseconds, or `stop`. */
  readonly pushback: number | "stop" | undefined;
  /** `google.rpc.RetryInfo`: the shortest wait in milliseconds. */
  readonly retryInfoMs: number | undefined;
  /** A server that runs the toolkit refused the call before its handler. */
  readonly handlerNotRun: boolean;
  /** Milliseconds until the call's deadline, `Infinity` without one. */
  readonly remainingMs: number;
  /** The median time of such calls, in milliseconds, where it is known. */
  readonly usualMs?: number | undefined;
  /** The answer of the user's `retryStatus`. It replaces `codes`. */
  readonly wanted?: boolean | undefined;
  /** The attempt ended OK with a response for which the user's `retryResponse` is true. */
  readonly unwanted?: boolean;
  /** Whether the method may run twice, where more is known than the options say: from the schema, or from a key. */
  readonly idempotent?: boolean | undefined;
  /** The server passed on the failure of a service below, which has given up retrying. */
  readonly relayed?: boolean;
  /** How many services above are retrying the inbound call for which this one is made. */
  readonly depth: number;
  /** Whether the request can be sent again. */
  readonly replayable: boolean;
}

export type RetryDecision =
  | { readonly kind: "retry"; readonly delayMs: number }
  | { readonly kind: "stop"; readonly reason: Reason };

/** A shorter pushback, in milliseconds, counts as none. */
const atOnceMs = 10;

/**
 * Decides about the retries of one call, and keeps the state of its backoff. Counting, commitment and pushback are
 * those of gRFC A6 (https://github.com/grpc/proposal/blob/master/A6-client-retries.md). Whether a failure may be
 * retried depends on its origin and on the method's idempotency, and not on the code alone.
 */
export class RetryRules {
  readonly #options: ResolvedRetryOptions;
  readonly #random: Random;
  /** Retries since the last pushback, which starts the backoff again (gRFC A6). */
  #retriesSincePushback = 0;
  #previousDelayMs = 0;
  /** How often the server has asked for a retry at once. From the second time on, the retry waits a little. */
  #atOnce = 0;
  /** There was a retry that relied on the server's claim. */
  #relied = false;

  constructor(options: ResolvedRetryOptions, random: Random) {
    this.#options = options;
    this.#random = random;
  }

  decide(failed: FailedAttempt): RetryDecision {
    if (failed.pushback === "stop") return stop("RETRY_PUSHBACK_STOP");
    if (failed.relayed === true) return stop("RETRY_EXHAUSTED_BELOW");
    const idempotent = failed.idempotent ?? this.#options.idempotent;
    if (!eligible(failed, this.#options, idempotent)) return stop("RETRY_NOT_ELIGIBLE");
    if (failed.depth >= this.#options.maxDepth) return stop("RETRY_DEPTH");
    if (!failed.replayable) return stop("RETRY_COMMITTED");
    const relies = reliesOnClaim(failed, this.#options, idempotent);
    const spent = failed.attempts >= this.#options.maxAttempts || (relies && this.#relied);
    if (spent) return stop("RETRY_ATTEMPTS_SPENT");
    const delayMs = this.#delay(failed);
    // The call ends now, instead of waiting until its deadline.
    if (delayMs >= failed.remainingMs) return stop("RETRY_PAST_DEADLINE");
    if (isTooLong(failed.pushback) || isTooLong(failed.retryInfoMs))
      return stop("RETRY_WAIT_TOO_LONG");
    if (isInfeasible(failed.usualMs, failed.remainingMs - delayMs)) return stop("RETRY_INFEASIBLE");
    this.#relied ||= relies;
    return { kind: "retry", delayMs };
  }

  #delay({ pushback, retryInfoMs }: FailedAttempt): number {
    if (typeof pushback === "number") {
      this.#retriesSincePushback = 0;
      this.#previousDelayMs = 0;
      if (pushback >= atOnceMs) return pushback;
      const delayMs = Math.max(pushback, pauseMs(this.#atOnce, this.#random));
      this.#atOnce += 1;
      return delayMs;
    }
    this.#retriesSincePushback += 1;
    const { backoff } = this.#options;
    this.#previousDelayMs = backoff(
      this.#retriesSincePushback,
      this.#previousDelayMs,
      this.#random,
    );
    return Math.max(this.#previousDelayMs, retryInfoMs ?? 0);
  }
}

/** Whether a wait that a server asks for is too long. Without a deadline, nothing else would end such a call. */
export function isTooLong(namedMs: number | "stop" | undefined): boolean {
  return typeof namedMs === "number" && namedMs > longestNamedWaitMs;
}

/** What the attempt after this failure is for the budget. */
export function kindAfter({ origin }: Pick<FailedAttempt, "origin">): AttemptKind {
  return origin === "never-sent" ? "replacement" : "extra";
}

/**
 * Whether an attempt is not worth sending, because it has less time than the median of such calls takes. False while
 * the median is not known.
 */
export function isInfeasible(usualMs: number | undefined, leftMs: number): boolean {
  return usualMs !== undefined && leftMs < usualMs;
}

/**
 * Whether a retry is harmless only if the server's claim is true that it has not processed the call. A call relies on
 * that once, as transparent retries do in gRFC A6: a server that always says so would otherwise get the call many
 * times.
 */
function reliesOnClaim(
  failed: FailedAttempt,
  options: ResolvedRetryOptions,
  idempotent: boolean | undefined,
): boolean {
  if (idempotent === true) return false;
  if (failed.origin === "refused") return true;
  return failed.origin === "remote" && !eligibleAnswer(failed, options, idempotent);
}

/** Why no attempt follows a failed one, in words, by the reason code. */
const stopTexts: Readonly<Partial<Record<Reason, (failed: FailedAttempt) => string>>> = {
  RETRY_ATTEMPTS_SPENT: ({ attempts }) =>
    attempts === 1 ? "1 attempt is all there is" : `all ${attempts} attempts are spent`,
  RETRY_PAST_DEADLINE: (failed) => `the wait is longer than the ${left(failed)} that are left`,
  RETRY_INFEASIBLE: (failed) =>
    `${left(failed)} are left, and such calls take ${inMs(failed.usualMs ?? 0)}`,
  RETRY_PUSHBACK_STOP: () => "the server asked not to be retried",
  RETRY_WAIT_TOO_LONG: ({ pushback, retryInfoMs = 0 }) =>
    `the server asked for a wait of ${inMs(typeof pushback === "number" ? pushback : retryInfoMs)}`,
  RETRY_COMMITTED: () => "the response has begun, or the request is kept no longer",
  RETRY_EXHAUSTED_BELOW: () => "a service below has given up retrying",
  RETRY_DEPTH: () => "a service above retries already",
  CLOSED: () => "the client was closed",
};

function left({ remainingMs }: FailedAttempt): string {
  return inMs(Math.max(0, remainingMs));
}

/** Why no attempt follows a failed one, in words; `undefined` where the reason code says all. */
export function stopText(reason: Reason, failed: FailedAttempt): string | undefined {
  return stopTexts[reason]?.(failed);
}

/** The detail of a decision that no attempt follows one that ended so. */
export function notAfter(ended: string, why: string | undefined): string {
  return why === undefined ? `none after ${ended}` : `none after ${ended}: ${why}`;
}

function stop(reason: Reason): RetryDecision {
  return { kind: "stop", reason };
}

/**
 * Whether a failure takes a token from the retry budget (gRFC A6, retry throttling): its code may be retried, or the
 * server asks for no retry.
 */
export function qualifies(
  failed: FailedAttempt,
  options: Pick<ResolvedRetryOptions, "codes">,
): boolean {
  switch (failed.origin) {
    case "local-policy":
    case "local-limit":
    case "local-setup":
    case "caller":
    case "deadline":
      return false;
    case "never-sent":
    case "refused":
    case "attempt-timeout":
    case "transport":
    case "remote":
      return failed.pushback === "stop" || wanted(failed, options);
    default:
      return failed.origin satisfies never;
  }
}

function wanted(
  { code, wanted: judged }: FailedAttempt,
  options: Pick<ResolvedRetryOptions, "codes">,
): boolean {
  return judged ?? options.codes.has(code);
}

/** Whether another attempt is harmless and may succeed. */
function eligible(
  failed: FailedAttempt,
  options: ResolvedRetryOptions,
  idempotent: boolean | undefined,
): boolean {
  if (failed.unwanted === true) return idempotent === true;
  switch (failed.origin) {
    case "never-sent":
    case "refused":
      return true;
    case "local-policy":
    case "local-limit":
    case "local-setup":
    case "caller":
    case "deadline":
      return false;
    case "attempt-timeout":
      return idempotent === true;
    case "transport":
      // HTTP/2 ENHANCE_YOUR_CALM: the server is overloaded and does not say when to retry.
      if (failed.code === statusCode.resourceExhausted) return false;
      return idempotent === true && wanted(failed, options);
    case "remote":
      return failed.handlerNotRun || eligibleAnswer(failed, options, idempotent);
    default:
      return failed.origin satisfies never;
  }
}

function eligibleAnswer(
  failed: FailedAttempt,
  options: ResolvedRetryOptions,
  idempotent: boolean | undefined,
): boolean {
  const { code, pushback, retryInfoMs, trailersOnly } = failed;
  if (code === statusCode.resourceExhausted) {
    // The code also means used-up quotas and too large messages, where a retry is useless. So it needs a wait from the
    // server.
    if (pushback === undefined && retryInfoMs === undefined) return false;
    if (failed.wanted === false) return false;
  } else if (!wanted(failed, options)) return false;
  if (idempotent !== undefined) return idempotent;
  return trailersOnly && code === statusCode.unavailable;
}
