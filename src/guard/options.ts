import type { Mode } from "../core/control.js";
import { durationMs, InvalidOptionError, readOptions, unlessFalse } from "../core/options.js";
import type { Priority } from "../core/priority.js";
import { renamedOptions } from "../core/renamed-options.js";
import type { BreakerOptions } from "../policies/breaker/options.js";
import type { BulkheadOptions } from "../policies/bulkhead/bulkhead.js";
import { defaultMarginMs } from "../policies/deadline/options.js";
import { type BackoffOptions, defaultBaseMs } from "../policies/retry/backoff.js";
import type { RetryBudgetOptions } from "../policies/retry/budget.js";

/**
 * The function that a guard runs. Where it declares no parameter, it is called without a signal, and none is made.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/guard.md
 */
export type GuardedWork<T> = (signal: AbortSignal) => T | PromiseLike<T>;

/**
 * The signal of work that nothing cancels. All such work shares it, so it keeps no listener: it would never call one, and
 * listeners that nobody removes would pile up.
 */
export const neverAborted: AbortSignal = Object.defineProperty(
  new AbortController().signal,
  "addEventListener",
  { value: () => {} },
);

/**
 * How many runs may be in progress at once, and how long the others may wait.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/guard.md
 */
export interface GuardBulkheadOptions extends BulkheadOptions {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
}

/**
 * When the guard stops calling the dependency for a while.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/guard.md
 */
export interface GuardBreakerOptions extends BreakerOptions {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
  /**
   * Whether an error of the function counts as a failure. An error that does not count is a success: the dependency
   * works, and has refused the request. Timeouts always count as failures. @defaultValue every error but an `AbortError`
   */
  readonly countError?: (error: unknown) => boolean;
}

/**
 * Which failed attempts are retried.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/guard.md
 */
export interface GuardRetryOptions {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
  /** Attempts of one run, the first included. 1 (no retry) to 100. @defaultValue 3 */
  readonly maxAttempts?: number;
  /** @defaultValue full jitter, 100 ms ×2, up to 2 s */
  readonly backoff?: BackoffOptions;
  /**
   * Whether to retry after this error. It is the error of the function, or a {@link GuardRejectedError} with reason
   * `WORK_TIMEOUT` where an attempt took longer than `timeouts.attemptMs`. @defaultValue every error but an `AbortError`
   */
  readonly retryError?: (error: unknown) => boolean;
  /**
   * A run is not retried when this many services above are retrying the inbound call already: the attempts of several
   * layers multiply. 1 to 100. @defaultValue 1
   */
  readonly maxDepth?: number;
  /**
   * Bounds the extra attempts of all runs together. `false` for no bound.
   * @defaultValue the defaults of `RetryBudgetOptions`
   */
  readonly budget?: RetryBudgetOptions | false;
}

/**
 * What answers when a run has failed: either `answer` or `value`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/guard.md
 */
export type GuardFallbackOptions<F> = {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
  /** How long `answer` may take. 1 ms to 24 days. @defaultValue 1_000 */
  readonly timeoutMs?: number;
  /** Whether the fallback answers to this error. @defaultValue to every error */
  readonly when?: (error: unknown) => boolean;
} & (
  | {
      /**
       * Gives the answer. If it throws or rejects, its own error is dropped and the run rejects as without a fallback.
       */
      readonly answer: (error: unknown, signal: AbortSignal) => F | PromiseLike<F>;
      readonly value?: never;
    }
  | {
      readonly answer?: never;
      /** The answer to every error. */
      readonly value: F;
    }
);

/** Timeouts for the parts of a run, in milliseconds, each from 1 ms to 24 days. They have the names that they have for a call. */
export interface GuardTimeoutOptions {
  /** Of one attempt, without its wait in the queue. Up to `totalMs`. @defaultValue no bound of its own */
  readonly attemptMs?: number;
  /**
   * Of the whole run: queue, attempts and the time between them, without the fallback. With `retry`, more than its
   * `backoff.baseMs`. @defaultValue no bound but the inbound call's deadline
   */
  readonly totalMs?: number;
}

/**
 * The policies of a guard. A policy that is not named is off.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/guard.md
 */
export interface GuardOptions<F = never> {
  /** @defaultValue off */
  readonly timeouts?: GuardTimeoutOptions | false;
  /**
   * How many milliseconds before the inbound call's deadline a run ends, so that the handler can still answer. A run that
   * begins with less than twice that gets half of the time that is left. 0 to 24 days. @defaultValue 5
   */
  readonly marginMs?: number;
  /** @defaultValue off */
  readonly bulkhead?: GuardBulkheadOptions | false;
  /** @defaultValue off */
  readonly breaker?: GuardBreakerOptions | false;
  /** @defaultValue off: only you know whether the work may run twice */
  readonly retry?: GuardRetryOptions | false;
  /** @defaultValue off */
  readonly fallback?: GuardFallbackOptions<F> | false;
}

const optionNames = [
  "timeouts",
  "marginMs",
  "bulkhead",
  "breaker",
  "retry",
  "fallback",
] as const satisfies readonly (keyof GuardOptions)[];

const renamed = renamedOptions("GuardPolicy");

/**
 * The options of one run.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/guard.md
 */
export interface GuardRunOptions {
  /**
   * Ends the run when it is aborted: the run rejects at once with the signal's reason. A run inside a handler ends with
   * its inbound call, too.
   */
  readonly signal?: AbortSignal;
  /** The order in the queue of the bulkhead. @defaultValue the inbound call's; outside of a handler, `normal` */
  readonly priority?: Priority;
  /** How many slots of the bulkhead the run takes, a whole number of at least 1. @defaultValue 1 */
  readonly weight?: number;
  /**
   * Each key has a circuit breaker and a bulkhead of its own, for example one for each shard or tenant. The guard keeps
   * the state of the 1,000 keys that were used last. @defaultValue all runs without a key share one
   */
  readonly key?: string;
}

/** The checked options that belong to no policy, in milliseconds. */
export interface GuardTimeouts {
  readonly totalMs: number | undefined;
  readonly attemptMs: number | undefined;
  readonly marginMs: number;
}

/**
 * Copies the options and those of each policy, so that each is read once however many parts of a guard look at it.
 *
 * @throws InvalidOptionError for what is no object of options, and for an unknown option.
 */
export function readGuardOptions<F>(given: GuardOptions<F>, prefix: string): GuardOptions<F> {
  const policies = Object.entries(readOptions(prefix, given, optionNames, [], renamed)).map(
    ([name, options]: [string, unknown]) => [
      name,
      typeof options === "object" && options !== null
        ? readOptions(`${prefix}.${name}`, options)
        : options,
    ],
  );
  return Object.fromEntries(policies);
}

/**
 * Checks the options that belong to no policy.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function resolveGuardTimeouts(
  options: GuardOptions<unknown>,
  prefix: string,
): GuardTimeouts {
  const given =
    unlessFalse(`${prefix}.timeouts`, options.timeouts ?? false, (option, value) =>
      readOptions(option, value, ["attemptMs", "totalMs"]),
    ) || {};
  const ms = (name: keyof GuardTimeoutOptions): number | undefined => {
    const value = given[name];
    return value === undefined ? undefined : durationMs(`${prefix}.timeouts.${name}`, value, 1);
  };
  const totalMs = ms("totalMs");
  const attemptMs = ms("attemptMs");
  if (totalMs !== undefined && attemptMs !== undefined && attemptMs > totalMs) {
    const rule = `at most ${prefix}.timeouts.totalMs, which is ${totalMs}`;
    throw new InvalidOptionError(`${prefix}.timeouts.attemptMs`, rule, attemptMs);
  }
  const { retry = false } = options;
  const baseMs = retry === false ? 0 : (retry?.backoff?.baseMs ?? defaultBaseMs);
  if (totalMs !== undefined && baseMs >= totalMs) {
    const rule = `above the backoff before the first retry, which is ${baseMs}`;
    throw new InvalidOptionError(`${prefix}.timeouts.totalMs`, rule, totalMs);
  }
  const marginMs = durationMs(`${prefix}.marginMs`, options.marginMs ?? defaultMarginMs);
  return { totalMs, attemptMs, marginMs };
}
