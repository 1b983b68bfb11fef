import { describe, expect, it } from "vitest";
import { reconnectBackoff } from "../../../src/grpc/channel/options.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";

interface Backoff {
  readonly initialMs: number;
  readonly maxMs: number;
}

const grpcJs: Backoff = { initialMs: 1_000, maxMs: 120_000 };

function ours(): Backoff {
  const options = reconnectBackoff({});
  return {
    initialMs: Number(options["grpc.initial_reconnect_backoff_ms"]),
    maxMs: Number(options["grpc.max_reconnect_backoff_ms"]),
  };
}

/** When a channel of grpc-js tries to connect, from the loss of its connection on. */
function attempts({ initialMs, maxMs }: Backoff, untilMs: number, random: () => number): number[] {
  const times: number[] = [];
  let atMs = 0;
  let waitMs = initialMs;
  while (atMs <= untilMs) {
    times.push(atMs);
    atMs += waitMs;
    waitMs = Math.min(waitMs * 1.6, maxMs) * (0.8 + 0.4 * random());
  }
  times.push(atMs);
  return times;
}

/** The mean time from the return of the server to the next attempt, for outages of so many ms, a fifth more or less. */
function delays(backoff: Backoff, outagesMs: readonly number[]): number[] {
  const random = seededRandom(20_260);
  const longestMs = 1.2 * Math.max(...outagesMs);
  const sums = outagesMs.map(() => 0);
  const draws = 2_000;
  for (let draw = 0; draw < draws; draw += 1) {
    const times = attempts(backoff, longestMs, random);
    for (const [index, outageMs] of outagesMs.entries()) {
      const backMs = outageMs * (0.8 + 0.4 * random());
      const nextMs = times.find((atMs) => atMs >= backMs) ?? Number.POSITIVE_INFINITY;
      sums[index] = (sums[index] ?? 0) + (nextMs - backMs) / draws;
    }
  }
  return sums;
}

describe("a channel with the defaults, after an outage", () => {
  it("connects again no later than one of grpc-js alone, but for a tenth of a second, however long it was", () => {
    const outagesMs: number[] = [];
    for (let outageMs = 100; outageMs < 120_000; outageMs *= 1.05) outagesMs.push(outageMs);
    const bare = delays(grpcJs, outagesMs);
    const later = delays(ours(), outagesMs).map((delayMs, index) => delayMs - (bare[index] ?? 0));
    expect(Math.max(...later)).toBeLessThan(100);
  });

  it("connects again three times as soon when it was long", () => {
    const outagesMs = [30_000, 60_000, 120_000];
    const bare = delays(grpcJs, outagesMs);
    for (const [index, delayMs] of delays(ours(), outagesMs).entries()) {
      expect(delayMs).toBeLessThan((bare[index] ?? 0) / 3);
    }
  });
});
