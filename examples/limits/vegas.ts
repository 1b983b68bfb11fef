import type { Limit } from "grpc-weir/server";
import { Window } from "./window.js";

/** After at most this many times the limit of calls, the shortest time is measured again. */
const probeMultiplier = 30;

/**
 * Estimates how many of the running calls are waiting, `limit × (1 − shortest / mean)`, and keeps that number between two
 * bounds (TCP Vegas; VegasLimit of Netflix concurrency-limits). It takes a slow dependency for overload.
 *
 * @param random From 0 to below 1, such as `Math.random`.
 */
export function vegas({ min = 8, max = 1_000, windowMs = 500 }, random: () => number): Limit {
  const window = new Window(windowMs, 10);
  const nextProbe = () => probeMultiplier * limit * (0.5 + random() / 2);
  let limit = max;
  let shortestMs = Number.POSITIVE_INFINITY;
  let failed = false;
  let calls = 0;
  let probeAt = nextProbe();
  return {
    get current() {
      return Math.floor(limit);
    },
    record(nowMs, tookMs, inFlight, outcome) {
      if (outcome === "failure") failed = true;
      calls += 1;
      const seen = window.record(nowMs, tookMs, inFlight);
      if (seen === undefined) return;
      const { meanMs, maxInFlight } = seen;
      const hadFailed = failed;
      failed = false;
      if (calls >= probeAt) {
        calls = 0;
        probeAt = nextProbe();
        shortestMs = meanMs;
        return;
      }
      shortestMs = Math.min(shortestMs, meanMs);
      const step = Math.max(1, Math.log10(limit));
      const waiting = Math.ceil(limit * (1 - shortestMs / meanMs));
      let next = limit;
      if (hadFailed) next = limit - step;
      else if (maxInFlight * 2 < limit) return;
      else if (waiting <= step) next = limit + 6 * step;
      else if (waiting < 3 * step) next = limit + step;
      else if (waiting > 6 * step) next = limit - step;
      limit = Math.min(max, Math.max(min, next));
    },
  };
}
