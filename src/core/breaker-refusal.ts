import type { HalfOpen } from "./breaker-half-open.js";
import type { ResolvedBreakerOptions } from "./breaker-options.js";
import type { Ramp } from "./breaker-ramp.js";
import type { Open } from "./breaker-state.js";
import type { Reason } from "./reasons.js";
import type { Refusal } from "./refusal.js";

/** The breaker lets no call through now. */
export interface BreakerRefusal extends Refusal {
  readonly reason: Extract<Reason, "BREAKER_OPEN" | "BREAKER_PROBING" | "BREAKER_RAMPING">;
  /**
   * When to ask again. For `BREAKER_OPEN` the rest that is left; for `BREAKER_PROBING` when a place is
   * free at the latest, though a probe that ends earlier frees one earlier; for `BREAKER_RAMPING` when
   * all calls pass. Absent for a breaker that was opened by hand.
   */
  readonly retryAfterMs?: number;
}

export const forcedOpen: BreakerRefusal = {
  kind: "refusal",
  reason: "BREAKER_OPEN",
  detail: "opened by hand",
};

export function resting({ detail, untilMs }: Open, nowMs: number): BreakerRefusal {
  return { kind: "refusal", reason: "BREAKER_OPEN", retryAfterMs: untilMs - nowMs, detail };
}

/** Where all places for probes are taken. */
export function crowded(
  state: HalfOpen,
  { probes, probeLeaseMs }: ResolvedBreakerOptions,
  nowMs: number,
): BreakerRefusal | undefined {
  const first = state.inTheWay;
  if (first === undefined) return undefined;
  return {
    kind: "refusal",
    reason: "BREAKER_PROBING",
    retryAfterMs: first.sinceMs + probeLeaseMs - nowMs,
    detail: `${state.probesOut} of ${probes} probes are out`,
  };
}

export function ramping(ramp: Ramp, nowMs: number): BreakerRefusal {
  return {
    kind: "refusal",
    reason: "BREAKER_RAMPING",
    retryAfterMs: ramp.untilMs - nowMs,
    detail: `${Math.round(ramp.shareAt(nowMs) * 100)} % of the calls pass`,
  };
}
