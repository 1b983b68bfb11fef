// Limits of one's own, from the literature, before a server of 50 workers that is asked for half as much again as it can do.
import type { Limit } from "grpc-weir/server";
import { aimd } from "./aimd.js";
import { gradient2 } from "./gradient2.js";
import { vegas } from "./vegas.js";

const workers = 50;
const callMs = 20;
const perSecond = (1.5 * workers * 1_000) / callMs;
const goodMs = 250;

/** The share of all calls that end within `goodMs`, where each that gets in waits for a worker. */
function goodWith(makeLimit: (busy: () => boolean) => Limit): number {
  /** When each running call ends, and with it how it began. All take as long, so the first to begin is the first to end. */
  const running: number[] = [];
  const started: { readonly startedMs: number; readonly inFlight: number }[] = [];
  const limit = makeLimit(() => running.length >= workers);
  const freeAtMs = Array.from({ length: workers }, () => 0);
  let offered = 0;
  let good = 0;
  // Always the same calls: one every so often, each of which takes as long.
  for (let nowMs = 0; nowMs < 30_000; nowMs += 1_000 / perSecond) {
    while ((running[0] ?? Number.POSITIVE_INFINITY) <= nowMs) {
      const endMs = running.shift() ?? nowMs;
      const { startedMs = 0, inFlight = 1 } = started.shift() ?? {};
      const tookMs = endMs - startedMs;
      limit.record(endMs, tookMs, inFlight, tookMs <= 2 * goodMs ? "success" : "failure");
    }
    offered += 1;
    if (running.length >= limit.current) continue;
    freeAtMs.sort((one, other) => one - other);
    const endMs = Math.max(nowMs, freeAtMs[0] ?? 0) + callMs;
    freeAtMs[0] = endMs;
    running.push(endMs);
    started.push({ startedMs: nowMs, inFlight: running.length });
    if (endMs - nowMs <= goodMs) good += 1;
  }
  return good / offered;
}

const max = 500;
const limits: Readonly<Record<string, (busy: () => boolean) => Limit>> = {
  "no limit": () => ({ current: 1_000_000, record: () => {} }),
  aimd: () => aimd({ max, maxLatencyMs: 150 }),
  vegas: () => vegas({ max }, () => 0.5),
  gradient2: (busy) => gradient2({ max }, busy),
};
for (const [name, make] of Object.entries(limits)) {
  console.log(`${name.padEnd(10)} ${(100 * goodWith(make)).toFixed(0)} % of the calls in time`);
}
