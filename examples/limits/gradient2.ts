import type { Limit } from "grpc-weir/server";
import { Window } from "./window.js";

/** Calls that take this many times their usual time, or less, do not count as waiting. */
const tolerance = 1.5;
/** How many windows the usual time averages, and how many of the first its plain mean. */
const memory = 600;
const warmUp = 10;

/**
 * The limit follows the ratio of the usual time of calls to their present time, and grows by its square root (Gradient2Limit
 * of Netflix concurrency-limits). It shrinks only while the process is saturated, because it takes a slow dependency for
 * overload; otherwise it allows at least a quarter more calls than run.
 *
 * @param saturated Whether this process is short of CPU or event loop, such as by
 *   `performance.eventLoopUtilization()`. Asked once in each window.
 */
export function gradient2(
  { min = 8, max = 1_000, windowMs = 500 },
  saturated: () => boolean,
): Limit {
  const window = new Window(windowMs, 20);
  let limit = max;
  let usualMs = 0;
  let windows = 0;
  let gated = true;
  const learn = (meanMs: number) => {
    windows += 1;
    const span = Math.min(windows, memory);
    usualMs += (windows <= warmUp ? 1 / span : 2 / (span + 1)) * (meanMs - usualMs);
    // After a load is over, its times must not count as usual for minutes.
    if (usualMs > 2 * meanMs) usualMs *= 0.9;
  };
  const step = (from: number, meanMs: number, maxInFlight: number) => {
    // Few calls run, so their times say nothing about the limit.
    if (maxInFlight < from / 2) return from;
    const ratio = meanMs > 0 ? Math.min(1, Math.max(0.5, (tolerance * usualMs) / meanMs)) : 1;
    return 0.8 * from + 0.2 * (ratio * from + Math.sqrt(from));
  };
  return {
    get current() {
      return Math.floor(limit);
    },
    record(nowMs, tookMs, inFlight) {
      const seen = window.record(nowMs, tookMs, inFlight);
      if (seen === undefined) return;
      const { meanMs, maxInFlight } = seen;
      learn(meanMs);
      const roomy = 1.25 * maxInFlight;
      let next = Math.max(limit, roomy);
      if (saturated()) {
        // The limit may be far above the calls that run, where no step would have an effect. So it starts from those.
        const from = gated ? Math.min(limit, Math.max(min, roomy)) : limit;
        next = step(from, meanMs, maxInFlight);
      }
      gated = !saturated();
      limit = Math.min(max, Math.max(min, next));
    },
  };
}
