import type { Random } from "../../core/clock.js";
import { durationMs, finiteNumber, oneOf, readOptions } from "../../core/options.js";

/**
 * Milliseconds to wait before retry number `retry`, which starts at 1. `previousMs` is the delay
 * before the retry before, 0 at the first. A caller that starts the sequence anew, as gRFC A6 asks
 * after a server's pushback, passes 1 and 0 again.
 */
export type Backoff = (retry: number, previousMs: number, random: Random) => number;

/**
 * How a delay is spread, so that calls that failed together do not return together. `cap` is the
 * delay without jitter, `U` a uniform choice:
 *
 * - `none`: `cap`
 * - `full`: `U(0, cap)`: the least work for the server
 * - `equal`: `cap / 2 + U(0, cap / 2)`: never at once
 * - `decorrelated`: `min(maxMs, U(baseMs, 3 * previous))`, where the first previous is `baseMs`;
 *   the multiplier plays no part
 * - `proportional`: `cap * U(0.8, 1.2)`, as in gRFC A6: up to a fifth above `maxMs`
 */
export type Jitter = (typeof jitters)[number];

const jitters = ["none", "full", "equal", "decorrelated", "proportional"] as const;

export interface BackoffOptions {
  /** Delay before the first retry, before jitter. 0 ms to 24 days. @defaultValue 100 */
  readonly baseMs?: number;
  /** What the growing delay stops at. At least `baseMs`, at most 24 days. @defaultValue 2_000 */
  readonly maxMs?: number;
  /** Each delay is so many times the one before. 1 (constant) to 100. @defaultValue 2 */
  readonly multiplier?: number;
  /** @defaultValue "full" */
  readonly jitter?: Jitter;
}

/** The first delay where the options name none, in milliseconds. */
export const defaultBaseMs = 100;

const defaults = {
  baseMs: defaultBaseMs,
  maxMs: 2_000,
  multiplier: 2,
  jitter: "full",
} as const satisfies Required<BackoffOptions>;

/**
 * Delays that grow by a factor up to a limit: `cap = min(maxMs, baseMs * multiplier ^ (retry - 1))`,
 * then jitter. The growth is that of gRFC A6; `full`, `equal` and `decorrelated` jitter are those of
 * "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
 *
 * @param prefix Path of the options in error messages.
 * @throws InvalidOptionError when an option is unknown or out of range.
 */
export function exponentialBackoff(given: BackoffOptions = {}, prefix = "backoff"): Backoff {
  const options = readOptions(prefix, given, Object.keys(defaults));
  const { baseMs, maxMs, multiplier, jitter } = checked(options, prefix);

  const capMs = (retry: number) =>
    // A power that has overflowed would turn a base of 0 into NaN.
    Math.min(maxMs, baseMs * Math.min(multiplier ** (retry - 1), Number.MAX_VALUE));

  switch (jitter) {
    case "none":
      return (retry) => capMs(retry);
    case "full":
      return (retry, _previousMs, random) => capMs(retry) * random();
    case "equal":
      return (retry, _previousMs, random) => (capMs(retry) / 2) * (1 + random());
    case "proportional":
      return (retry, _previousMs, random) => capMs(retry) * (0.8 + 0.4 * random());
    case "decorrelated":
      return (_retry, previousMs, random) => {
        // Below the base at the first retry; above the limit only when it was not a delay of ours.
        const fromMs = Math.min(maxMs, Math.max(baseMs, previousMs));
        return Math.min(maxMs, baseMs + random() * (3 * fromMs - baseMs));
      };
  }
}

function checked(options: BackoffOptions, prefix: string): Required<BackoffOptions> {
  const {
    baseMs = defaults.baseMs,
    maxMs = defaults.maxMs,
    multiplier = defaults.multiplier,
    jitter = defaults.jitter,
  } = options;
  return {
    baseMs: durationMs(`${prefix}.baseMs`, baseMs),
    maxMs: durationMs(`${prefix}.maxMs`, maxMs, baseMs),
    multiplier: finiteNumber(`${prefix}.multiplier`, multiplier, 1, 100),
    jitter: oneOf(`${prefix}.jitter`, jitter, jitters),
  };
}
