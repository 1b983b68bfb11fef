import { durationMs, InvalidOptionError, readOptions } from "../../core/options.js";

/**
 * How much earlier than the deadline of the inbound call its outbound calls and guarded work end, in milliseconds, so that
 * the handler can still answer.
 */
export const defaultMarginMs = 5;

/**
 * Timeouts for the parts of a call, in milliseconds, each from 1 ms to 24 days. A timeout that is left out is off. They hold
 * beside the deadline of the call: whichever comes first ends it.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/deadlines.md#timeouts
 */
export interface TimeoutOptions {
  /**
   * How long an attempt may wait until its channel is ready, from the start of the attempt. It tells a target that cannot be
   * reached from one that is slow: the attempt was never sent.
   */
  readonly connectionMs?: number;
  /** How long one attempt may take, its wait for a connection included. */
  readonly attemptMs?: number;
  /** How long an attempt may take until the response begins, with headers or a message. */
  readonly firstResponseMs?: number;
  /**
   * The longest time between two messages of a streamed response. It runs only while a message has been asked for, so that a
   * reader that takes its time does not end its own stream.
   */
  readonly idleMs?: number;
  /** How long the whole call may take: all attempts and the waits between them. */
  readonly totalMs?: number;
}

/** Checked and frozen; `undefined` is off. */
export type ResolvedTimeoutOptions = {
  readonly [K in keyof TimeoutOptions]-?: number | undefined;
};

/** Options of other policies that timeouts must agree with. */
export interface TimeoutEnvironment {
  /** The first backoff of the retry policy. */
  readonly retryBaseMs?: number | undefined;
  /** The default deadline. */
  readonly deadlineDefaultMs?: number | undefined;
}

/** The first of each pair runs inside the second: were it longer, it could never pass. */
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
 * Checks that each timeout is in range, and that none makes another timeout, the first retry or the default deadline
 * impossible, which would otherwise be ignored silently.
 *
 * @param prefix Path of the options in error messages.
 * @throws InvalidOptionError naming the option, its rule and what it was given. Of two options that contradict each other,
 *   the message has both numbers.
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
  checkTotal(resolved.totalMs, `${prefix}.totalMs`, also);
  return Object.freeze(resolved);
}

function checkTotal(totalMs: number | undefined, option: string, also: TimeoutEnvironment): void {
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
