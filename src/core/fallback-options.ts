import { durationMs, InvalidOptionError, wholeNumber } from "./options.js";
import type { StatusOrigin } from "./origin.js";
import type { Reason } from "./reasons.js";

/** What every provider of fallback answers can be told. */
export interface FallbackLimits {
  /**
   * What it is called in marks, decisions and numbers: letters, digits, `.`, `_` and `-`, at most 64. Two providers of
   * one chain need two names. @defaultValue the name of its kind
   */
  readonly name?: string;
  /** Calls of one policy that it may work for at once, at least 1. @defaultValue 10, as in Hystrix */
  readonly maxConcurrent?: number;
}

/** The limits of a provider, checked. */
export interface ResolvedFallbackLimits {
  readonly name: string;
  /** How long it may take for one call, and what it counts for in the reserve. */
  readonly timeoutMs: number;
  readonly maxConcurrent: number;
}

/** What names something that degrades an answer. */
export const degradationName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveFallbackLimits(
  options: FallbackLimits & { readonly timeoutMs?: number },
  defaults: { readonly name: string; readonly timeoutMs: number },
  prefix: string,
): ResolvedFallbackLimits {
  const { name = defaults.name, timeoutMs = defaults.timeoutMs, maxConcurrent = 10 } = options;
  if (typeof name !== "string" || !degradationName.test(name)) {
    throw new InvalidOptionError(
      `${prefix}.name`,
      "a name of letters, digits, dots, dashes and underscores, at most 64 of them",
      name,
    );
  }
  return Object.freeze({
    name,
    timeoutMs: durationMs(`${prefix}.timeoutMs`, timeoutMs, 1),
    maxConcurrent: wholeNumber(`${prefix}.maxConcurrent`, maxConcurrent, 1),
  });
}

/** How much of a call's time is kept for its fallback, at most: the call itself comes first. */
const largestShare = { asked: 1 / 2, byDefault: 1 / 4 } as const;

/**
 * How much earlier than its deadline a call must be answered, so that a fallback can still answer for it.
 *
 * @param reserveMs What the user asked for; else the time that the providers may take altogether.
 * @param availableMs The time the call has; without a deadline nothing is kept.
 */
export function fallbackReserveMs(
  reserveMs: number | undefined,
  providers: readonly { readonly timeoutMs: number }[],
  availableMs: number,
): number {
  if (!(availableMs > 0) || availableMs === Number.POSITIVE_INFINITY) return 0;
  if (reserveMs !== undefined) return Math.min(reserveMs, availableMs * largestShare.asked);
  const chainMs = providers.reduce((sum, { timeoutMs }) => sum + timeoutMs, 0);
  return Math.min(chainMs, availableMs * largestShare.byDefault);
}

const helpedCodes: ReadonlySet<number> = new Set([
  2, // UNKNOWN
  4, // DEADLINE_EXCEEDED
  8, // RESOURCE_EXHAUSTED
  13, // INTERNAL
  14, // UNAVAILABLE
  15, // DATA_LOSS
]);

/**
 * Whether another answer helps against a failure, unless the user says otherwise: where the service could not do its
 * part. Not where the caller asked for something that it cannot have, nor where this process could not send
 * or read a message: hiding that would hide a mistake.
 */
export function fallbackHelps(failed: {
  readonly code: number;
  readonly origin: StatusOrigin;
  readonly reason: Reason | undefined;
}): boolean {
  const { code, origin, reason } = failed;
  if (origin === "caller" || origin === "local-limit" || origin === "local-setup") return false;
  if (reason === "CLOSED") return false;
  return helpedCodes.has(code);
}
