import type { Limit } from "grpc-weir/server";

// #region aimd
/**
 * Additive increase, multiplicative decrease, as in TCP (AIMDLimit of Netflix concurrency-limits). It is as good as the
 * longest time that it is given.
 */
export function aimd({ min = 8, max = 1_000, backoffRatio = 0.9, maxLatencyMs = 5_000 }): Limit {
  let limit = max;
  let backedOffMs = Number.NEGATIVE_INFINITY;
  return {
    get current() {
      return Math.floor(limit);
    },
    record(nowMs, tookMs, inFlight, outcome) {
      if (outcome === "failure" || tookMs > maxLatencyMs) {
        // Calls that were admitted before the last decrease say nothing about the limit since then.
        if (nowMs - tookMs < backedOffMs) return;
        backedOffMs = nowMs;
        limit = Math.max(min, limit * backoffRatio);
      } else if (inFlight * 2 >= limit) {
        limit = Math.min(max, limit + 1);
      }
    },
  };
}
// #endregion
