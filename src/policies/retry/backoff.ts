import type { Random } from "../../core/clock.js";
import { durationMs, finiteNumber, oneOf, readOptions } from "../../core/options.js";

/**
 * Returns the milliseconds to wait before retry number `retry`, counted from 1. `previousMs` is the wait before the
 * last retry, 0 for the first. To start the sequence again, as gRFC A6 requires after a pushback, pass 1 and 0.
 */
export type Backoff = (retry: number, previousMs: number, random: Random) => number;

/**
 * How waits are randomized, so that calls that failed at the same time are not retried at the same time. `cap` is the
 * wait without jitter, `U` a uniform random number:
 *
 * - `none`: `cap`
 * - `full`: `U(0, cap)`, the least load for the server
 * - `equal`: `cap / 2 + U(0, cap / 2)`, never at once
 * - `decorrelated`: `min(maxMs, U(baseMs, 3 * previous))`, where the first `previous` is `baseMs`; without the
 *   multiplier
 * - `proportional`: `cap * U(0.8, 1.2)`, as in gRFC A6, so that it can be a fifth above `maxMs`
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/retries.md
 */
export type Jitter = (typeof jitters)[number];

const jitters = ["none", "full", "equal", "decorrelated", "proportional"] as const;

/**
 * How long to wait before a retry.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/retries.md
 */
export interface BackoffOptions {
  /** The wait before the first retry, before jitter, in milliseconds. 0 to 24 days. @defaultValue 100 */
  readonly baseMs?: number;
  /** The longest wait, before jitter, in milliseconds. At least `baseMs`, at most 24 days. @defaultValue 2_000 */
  readonly maxMs?: number;
  /** Each wait is this many times the one before. 1 (constant) to 100. @defaultValue 2 */
  readonly multiplier?: number;
  /** @defaultValue "full" */
  readonly jitter?: Jitter;
}

/** The default of `baseMs`. */
export const defaultBaseMs = 100;

const defaults = {
  baseMs: defaultBaseMs,
  maxMs: 2_000,
  multiplier: 2,
  jitter: "full",
} as const satisfies Required<BackoffOptions>;

/**
 * Exponential backoff: `cap = min(maxMs, baseMs * multiplier ^ (retry - 1))`, then jitter, as in gRFC A6. The jitter
 * `full`, `equal` and `decorrelated` is that of
 * https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
 *
 * @param prefix The path of the options, for errors.
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function exponentialBackoff(given: BackoffOptions = {}, prefix = "backoff"): Backoff {
  const options = readOptions(prefix, given, Object.keys(defaults));
  const { baseMs, maxMs, multiplier, jitter } = checked(options, prefix);

  const capMs = (retry: number) =>
    // 0 * Infinity, from a power that overflows, would be NaN.
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
        // Below `baseMs` at the first retry.
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
