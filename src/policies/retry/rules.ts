import type { Random } from "../../core/clock.js";
import type { Reason } from "../../core/decision.js";
import { pauseMs } from "../../core/pause.js";
import { type StatusOrigin, statusCode } from "../../core/status.js";
import type { ResolvedRetryOptions } from "./options.js";

/** Of the waits that somebody else names, the longest that is taken for meant. */
const longestNamedWaitMs = 300_000;

/** What the decision about another attempt rests on. */
export interface FailedAttempt {
  /** The status code by which the attempt counts: where a transport ended it, what its text says it means. */
  readonly code: number;
  readonly origin: StatusOrigin;
  /** Attempts so far, this one included. */
  readonly attempts: number;
  /** The status came in trailers alone: the server had not begun to answer. */
  readonly trailersOnly: boolean;
  /** `grpc-retry-pushback-ms`: the exact wait, `stop`, or nothing. */
  readonly pushback: number | "stop" | undefined;
  /** `google.rpc.RetryInfo`: a lower bound of the wait. */
  readonly retryInfoMs: number | undefined;
  /** A server that runs the toolkit says that the handler was not reached. */
  readonly handlerNotRun: boolean;
  /** Milliseconds until the call's deadline, `Infinity` without one. */
  readonly remainingMs: number;
  /** What half of such calls take at least, in milliseconds, where that is known. */
  readonly usualMs?: number | undefined;
  /** The caller's own judgement of the status, in place of the code set. */
  readonly wanted?: boolean | undefined;
  /** The attempt ended OK, with a response that the caller does not want. */
  readonly unwanted?: boolean;
  /** Whether running the method twice does no harm, where more is known of the call than the options say. */
  readonly idempotent?: boolean | undefined;
  /** A service below has given up on it already, and the server passed that on. */
  readonly relayed?: boolean;
  /** How many services above are retrying the call that this one is made for. */
  readonly depth: number;
  /** The request can still be sent again. */
  readonly replayable: boolean;
}

export type RetryDecision =
  | { readonly kind: "retry"; readonly delayMs: number }
  | { readonly kind: "stop"; readonly reason: Reason };

/** A pushback below this is no wait, in milliseconds. */
const atOnceMs = 10;

/**
 * The retry rules for one call: gRFC A6 for counting, commitment and pushback, with eligibility by origin and
 * idempotency instead of by the code alone. It keeps the state of the backoff sequence.
 */
export class RetryRules {
  readonly #options: ResolvedRetryOptions;
  readonly #random: Random;
  /** Retries since the server last named the wait (A6: pushback starts the sequence anew). */
  #retriesSincePushback = 0;
  #previousDelayMs = 0;
  /** How often the server has asked for a retry at once. The first time it is taken at its word. */
  #atOnce = 0;
  /** A peer was taken at its word once that it has not run the call. */
  #believed = false;

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
    const byWord = onItsWord(failed, this.#options, idempotent);
    const spent = failed.attempts >= this.#options.maxAttempts || (byWord && this.#believed);
    if (spent) return stop("RETRY_ATTEMPTS_SPENT");
    const delayMs = this.#delay(failed);
    // A wait that does not fit ends the call now, with the status that is at hand.
    if (delayMs >= failed.remainingMs) return stop("RETRY_PAST_DEADLINE");
    if (isTooLong(failed.pushback) || isTooLong(failed.retryInfoMs))
      return stop("RETRY_WAIT_TOO_LONG");
    if (isInfeasible(failed.usualMs, failed.remainingMs - delayMs)) return stop("RETRY_INFEASIBLE");
    this.#believed ||= byWord;
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

/** Nobody means a wait of days, and without a deadline nothing else would end it. */
export function isTooLong(namedMs: number | "stop" | undefined): boolean {
  return typeof namedMs === "number" && namedMs > longestNamedWaitMs;
}

/**
 * Whether an attempt with so much time left is not worth sending: half of such calls take longer. Where that is not
 * known, it is.
 */
export function isInfeasible(usualMs: number | undefined, leftMs: number): boolean {
  return usualMs !== undefined && leftMs < usualMs;
}

/**
 * Whether another attempt does no harm only if the peer says the truth: that it has not run the call. It is believed
 * once, as gRFC A6 has it for transparent retries; a peer that always says so must not have a call sent that often.
 */
function onItsWord(
  failed: FailedAttempt,
  options: ResolvedRetryOptions,
  idempotent: boolean | undefined,
): boolean {
  if (idempotent === true) return false;
  if (failed.origin === "refused") return true;
  return failed.origin === "remote" && !eligibleAnswer(failed, options, idempotent);
}

function stop(reason: Reason): RetryDecision {
  return { kind: "stop", reason };
}

/**
 * Whether a failure is of the kind that takes a token from the retry throttle (gRFC A6): one that would be
 * retried by its code, or one that the server asks not to retry.
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

/** Whether another attempt can do no harm and may help. */
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
      // A peer that is out of room says so without a word of when.
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
    // It also means quotas and sizes, which no retry heals. Only a server that says when may be asked again.
    if (pushback === undefined && retryInfoMs === undefined) return false;
    if (failed.wanted === false) return false;
  } else if (!wanted(failed, options)) return false;
  if (idempotent !== undefined) return idempotent;
  return trailersOnly && code === statusCode.unavailable;
}
