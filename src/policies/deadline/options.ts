import { durationMs, InvalidOptionError, readOptions } from "../../core/options.js";

/**
 * How much earlier than its inbound call's deadline what a handler waits for ends, in milliseconds, so that the handler
 * can still answer.
 */
export const defaultMarginMs = 5;

/**
 * Bounds on the parts of a call, each off when absent and each from 1 ms to 24 days. A call's own
 * deadline holds besides: whichever comes first ends the call.
 */
export interface TimeoutOptions {
  /**
   * How long an attempt may wait for a channel that is ready: a target that nobody can reach is told
   * from one that is slow, and the attempt never left this process. From the start of the attempt.
   */
  readonly connectionMs?: number;
  /** How long one attempt may take altogether, its wait for a connection included. */
  readonly attemptMs?: number;
  /** How long an attempt may take until the first of its response: headers or a message. */
  readonly firstResponseMs?: number;
  /**
   * The longest silence between two messages of a streamed response. It runs only while a message is
   * asked for, so that a reader who takes its time does not end its own stream.
   */
  readonly idleMs?: number;
  /** How long the whole call may take: all attempts and the waits between them. */
  readonly totalMs?: number;
}

/** Checked and frozen; `undefined` is off. */
export type ResolvedTimeoutOptions = {
  readonly [K in keyof TimeoutOptions]-?: number | undefined;
};

/** What other policies of the same call are set to, as far as the timeouts could contradict it. */
export interface TimeoutEnvironment {
  /** The first backoff of the retry policy. */
  readonly retryBaseMs?: number | undefined;
  /** The deadline that a call without one is given. */
  readonly deadlineDefaultMs?: number | undefined;
}

/** The first of each pair runs inside the second: set higher, it could never pass. */
const inside = [
  ["attemptMs", "totalMs"],
  ["firstResponseMs", "attemptMs"],
  ["firstResponseMs", "totalMs"],
  ["connectionMs", "attemptMs"],
  ["connectionMs", "totalMs"],
  ["idleMs", "attemptMs"],
  ["idleMs", "totalMs"],
] as const satisfies readonly (readonly [keyof TimeoutOptions, keyof TimeoutOptions])[];

const known = ["connectionMs", "attemptMs", "firstResponseMs", "idleMs", "totalMs"] as const;

/**
 * Checks the timeouts, and that none of them makes another one, the first retry, or the default
 * deadline impossible: such an option would be ignored without a word.
 *
 * @param prefix Path of the options in error messages.
 * @throws InvalidOptionError when an option is unknown, out of range, or in contradiction to another
 * one; the message has both numbers.
 */
export function resolveTimeoutOptions(
  given: TimeoutOptions = {},
  prefix = "timeouts",
  also: TimeoutEnvironment = {},
): ResolvedTimeoutOptions {
  const options = readOptions(prefix, given, known);
  const checked = (name: keyof TimeoutOptions): number | undefined => {
    const value = options[name];
    return value === undefined ? undefined : durationMs(`${prefix}.${name}`, value, 1);
  };
  const resolved: ResolvedTimeoutOptions = {
    connectionMs: checked("connectionMs"),
    attemptMs: checked("attemptMs"),
    firstResponseMs: checked("firstResponseMs"),
    idleMs: checked("idleMs"),
    totalMs: checked("totalMs"),
  };
  for (const [inner, outer] of inside) {
    const innerMs = resolved[inner];
    const outerMs = resolved[outer];
    if (innerMs !== undefined && outerMs !== undefined && innerMs > outerMs) {
      throw new InvalidOptionError(
        `${prefix}.${inner}`,
        `at most ${prefix}.${outer}, which is ${outerMs}`,
        innerMs,
      );
    }
  }
  agrees(resolved.totalMs, `${prefix}.totalMs`, also);
  return Object.freeze(resolved);
}

function agrees(totalMs: number | undefined, option: string, also: TimeoutEnvironment): void {
  if (totalMs === undefined) return;
  const { retryBaseMs, deadlineDefaultMs } = also;
  if (retryBaseMs !== undefined && retryBaseMs >= totalMs) {
    throw new InvalidOptionError(
      option,
      `above the backoff before the first retry, which is ${retryBaseMs}`,
      totalMs,
    );
  }
  if (deadlineDefaultMs !== undefined && deadlineDefaultMs > totalMs) {
    throw new InvalidOptionError(
      option,
      `at least the default deadline, which is ${deadlineDefaultMs}`,
      totalMs,
    );
  }
}
