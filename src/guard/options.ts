import type { Mode } from "../core/control.js";
import { durationMs, InvalidOptionError, readOptions } from "../core/options.js";
import type { Priority } from "../core/priority.js";
import type { BreakerOptions } from "../policies/breaker/options.js";
import type { BulkheadOptions } from "../policies/bulkhead/bulkhead.js";
import { defaultMarginMs } from "../policies/deadline/options.js";
import { type BackoffOptions, defaultBaseMs } from "../policies/retry/backoff.js";
import type { RetryBudgetOptions } from "../policies/retry/budget.js";

/** What a guard runs. A function that declares no parameter is called without a signal, and none is made for it. */
export type GuardedWork<T> = (signal: AbortSignal) => T | PromiseLike<T>;

/**
 * The signal of work that nothing can cancel. It is shared by all such work, so it keeps no listener: none would ever be
 * called, and those that nobody removes would pile up.
 */
export const neverAborted: AbortSignal = Object.defineProperty(
  new AbortController().signal,
  "addEventListener",
  { value: () => {} },
);

/** How many runs may work at once, and how long the others may wait. */
export interface GuardBulkheadOptions extends BulkheadOptions {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
}

/** When to stop trying for a while. */
export interface GuardBreakerOptions extends BreakerOptions {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
  /**
   * Whether an error that the function rejected with counts as a failure. One that does not count is a success: the
   * dependency works, and said no. Time-outs count always. @defaultValue every error but an `AbortError`
   */
  readonly countError?: (error: unknown) => boolean;
}

/** Which failed attempts are tried again. */
export interface GuardRetryOptions {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
  /** Attempts of one run, the first included. 1 (no retry) to 100. @defaultValue 3 */
  readonly maxAttempts?: number;
  /** @defaultValue full jitter, 100 ms ×2, up to 2 s */
  readonly backoff?: BackoffOptions;
  /**
   * Whether to try again after this error: what the function rejected with, or a {@link GuardRejectedError} with
   * reason `WORK_TIMEOUT` where an attempt took longer than `attemptTimeoutMs`. @defaultValue every error but an
   * `AbortError`
   */
  readonly retryError?: (error: unknown) => boolean;
  /**
   * A run that is made for a call which so many services above are retrying already is not retried here: layers
   * multiply. 1 to 100. @defaultValue 1
   */
  readonly maxDepth?: number;
  /** How many extra attempts the guard makes. `false` for no bound. @defaultValue the defaults of `RetryBudgetOptions` */
  readonly budget?: RetryBudgetOptions | false;
}

/** What answers when the work can not. It needs an `answer` or a `value`. */
export type GuardFallbackOptions<F> = {
  /** @defaultValue `enforce` */
  readonly mode?: Mode;
  /** How long `answer` may take. 1 ms to 24 days. @defaultValue 1_000 */
  readonly timeoutMs?: number;
  /** Whether there is an answer to this error. @defaultValue to every error */
  readonly when?: (error: unknown) => boolean;
} & (
  | {
      /** What to answer. What it throws or rejects with is dropped: the run then rejects as without it. */
      readonly answer: (error: unknown, signal: AbortSignal) => F | PromiseLike<F>;
      readonly value?: never;
    }
  | { readonly answer?: never; readonly value: F }
);

/** The policies of a guard. What is not named is off. */
export interface GuardOptions<F = never> {
  /**
   * How long a run may take altogether: waits, attempts, and the time between them, without the fallback. 1 ms to 24
   * days. @defaultValue no bound but the inbound call's deadline
   */
  readonly timeoutMs?: number;
  /**
   * How much earlier than the inbound call's deadline a run must end, so that the handler can still answer. A run that
   * begins with less than twice that has half of what is left. 0 to 24 days. @defaultValue 5
   */
  readonly marginMs?: number;
  /** How long one attempt may take, behind the queue. 1 ms to 24 days. @defaultValue no bound of its own */
  readonly attemptTimeoutMs?: number;
  /** @defaultValue off */
  readonly bulkhead?: GuardBulkheadOptions | false;
  /** @defaultValue off */
  readonly breaker?: GuardBreakerOptions | false;
  /** @defaultValue off: whether running the work twice does no harm is for you to say */
  readonly retry?: GuardRetryOptions | false;
  /** @defaultValue off */
  readonly fallback?: GuardFallbackOptions<F> | false;
}

const known = [
  "timeoutMs",
  "attemptTimeoutMs",
  "marginMs",
  "bulkhead",
  "breaker",
  "retry",
  "fallback",
] as const satisfies readonly (keyof GuardOptions)[];

/** What holds for one run. */
export interface GuardRunOptions {
  /**
   * Ends the run: it rejects with the signal's reason, at once. Beside this, the run follows the inbound call.
   */
  readonly signal?: AbortSignal;
  /** The order in the queue. @defaultValue the inbound call's; outside of one, `normal` */
  readonly priority?: Priority;
  /** How many places of the bulkhead the run takes, a whole number of at least 1. @defaultValue 1 */
  readonly weight?: number;
  /**
   * Runs with a key have a breaker and a bulkhead of their own, such as one for each shard or tenant. State is kept
   * for the 1,000 keys that were used last. @defaultValue one state for all runs without a key
   */
  readonly key?: string;
}

/** Checked. */
export interface GuardTimeouts {
  readonly timeoutMs: number | undefined;
  readonly attemptTimeoutMs: number | undefined;
  readonly marginMs: number;
}

/** Reads the options, those of the policies too: more than one part of a guard looks into them. */
export function readGuardOptions<F>(given: GuardOptions<F>, prefix: string): GuardOptions<F> {
  const policies = Object.entries(readOptions(prefix, given, known)).map(
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
 * Checks the options that are not a policy's own.
 *
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function resolveGuardTimeouts(
  options: GuardOptions<unknown>,
  prefix: string,
): GuardTimeouts {
  const ms = (name: keyof GuardTimeouts): number | undefined => {
    const value = options[name];
    return value === undefined ? undefined : durationMs(`${prefix}.${name}`, value, 1);
  };
  const timeoutMs = ms("timeoutMs");
  const attemptTimeoutMs = ms("attemptTimeoutMs");
  if (timeoutMs !== undefined && attemptTimeoutMs !== undefined && attemptTimeoutMs > timeoutMs) {
    const rule = `at most ${prefix}.timeoutMs, which is ${timeoutMs}`;
    throw new InvalidOptionError(`${prefix}.attemptTimeoutMs`, rule, attemptTimeoutMs);
  }
  const { retry = false } = options;
  const baseMs = retry === false ? 0 : (retry?.backoff?.baseMs ?? defaultBaseMs);
  if (timeoutMs !== undefined && baseMs >= timeoutMs) {
    const rule = `above the backoff before the first retry, which is ${baseMs}`;
    throw new InvalidOptionError(`${prefix}.timeoutMs`, rule, timeoutMs);
  }
  const marginMs = durationMs(`${prefix}.marginMs`, options.marginMs ?? defaultMarginMs);
  return { timeoutMs, attemptTimeoutMs, marginMs };
}
