import { Metadata } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { ServerPolicy } from "../../../src/pipeline/server.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";
import { handlers, scene } from "../../scene.js";

/** How long handlers take, around 100 ms. */
const times = {
  "always the same time": () => 100,
  "from 50 to 150 ms": (random: () => number) => 50 + 100 * random(),
} as const;

/** Callers with the defaults of a client come all at once, 66 times; how many of them are not served? */
async function unserved(
  server: ServerPolicy,
  callers: number,
  tookMs: (random: () => number) => number,
) {
  let failed = 0;
  for (let seed = 1; seed <= 22; seed += 1) {
    const random = seededRandom(seed * 77);
    const { call, start, link, clock } = await scene({
      seed,
      server,
      handlers: handlers((_call, answer) => void clock.schedule(tookMs(random), answer)),
    });
    for (let learnt = 0; learnt < 5; learnt += 1) await call("unary");
    for (let burst = 0; burst < 3; burst += 1) {
      await clock.pass(3_000);
      const options = () => ({ deadline: clock.wallNow() + 10_000 });
      const running = Array.from(
        { length: callers },
        () => start("unary", options(), new Metadata()).ended,
      );
      const ends = await link.until(Promise.all(running), 1e9);
      failed += ends.filter(({ code }) => code !== 0).length;
    }
  }
  return failed;
}

describe.each(Object.entries(times))("a burst, with handlers that take %s", (_title, tookMs) => {
  it("of five callers at a limit of 1 is served whole", async () => {
    expect(await unserved({ admission: { limit: 1 } }, 5, tookMs)).toBe(0);
  });

  it.each([
    ["admission", { admission: { limit: 1, maxQueued: 0, thresholds: false } }, 5],
    ["a bulkhead", { bulkhead: { maxConcurrent: 1, maxQueued: 0 } }, 5],
    ["admission", { admission: { limit: 4, maxQueued: 0, thresholds: false } }, 12],
    ["a bulkhead", { bulkhead: { maxConcurrent: 4, maxQueued: 0 } }, 12],
  ] as const)(
    "at %s without a queue is served, but for a few where times are random: %j",
    async (_name, server, callers) => {
      const failed = await unserved(server, callers, tookMs);
      // Without a queue, a call that comes a moment too soon has spent an attempt.
      expect(failed / (66 * callers)).toBeLessThanOrEqual(
        tookMs === times["always the same time"] ? 0 : 0.05,
      );
    },
  );
});
