import { status as Status } from "@grpc/grpc-js";
import { expect, it } from "vitest";
import { priorities } from "../../../src/core/priority.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";
import { forSeeds } from "../../replay.js";
import { handlers, kinds, scene } from "../../scene.js";

/** A throttled client and a server that sheds, with calls of all kinds and priorities, cancellations and deadlines. */
async function world(seed: number): Promise<ReadonlySet<string>> {
  const random = seededRandom(seed);
  const pick = <const T extends readonly unknown[]>(...values: T): T[number] =>
    values[Math.floor(random() * values.length)];
  const { start, link, clock, weir, decisions, transport } = await scene({
    seed,
    network: { latencyMs: (draw) => draw() * pick(2, 20), loss: pick(0, 0, 0.02) },
    client: {
      deadline: { defaultMs: 1_000 },
      retry: pick(false, { maxAttempts: 2, idempotent: true }),
      breaker: false,
      throttle: {
        windowMs: pick(1_000, 60_000),
        forcedPassMs: 200,
        mode: pick("enforce", "observe"),
      },
      bulkhead: pick(false, { maxConcurrent: 8, maxQueued: 4, maxWaitMs: 30 }),
    },
    server: {
      admission: {
        limit: pick(3, 6),
        maxQueued: pick(0, 4),
        maxWaitMs: 20,
        publish: true,
        streams: pick("together", { limit: 3, maxQueued: 0 }),
      },
    },
    handlers: handlers((_call, answer) => clock.schedule(random() * 60, answer)),
  });
  const weights = pick([0, 1, 2, 3], [1, 1, 1, 3, 3, 3], [3]);
  // Where better calls fill the server from the start, it soon says whom it refuses.
  const [crowd, gapMs] = pick([0, 12], [12, 3]);
  const ends: Promise<unknown>[] = [];
  const seen = new Set<string>();
  for (let n = 0; n < 80; n += 1) {
    const rank = n < crowd ? 1 : (weights[Math.floor(random() * weights.length)] ?? 0);
    const priority = priorities[rank] ?? "normal";
    const options = random() < 0.1 ? { deadline: clock.wallNow() + random() * 100 } : {};
    const call = start(pick(...kinds), random() < 0.1 ? options : weir.with(options, { priority }));
    if (random() < 0.1) clock.schedule(random() * 60, call.cancel);
    ends.push(
      call.ended.then(({ error }) => {
        const rejection = rejectionOf(error ?? {});
        seen.add(rejection?.reason ?? Status[error?.code ?? Status.OK]);
        if (rejection?.reason === "SERVER_SHEDDING") expect(priority).not.toBe("critical");
      }),
    );
    await link.pass(n < crowd ? 0 : random() * gapMs);
  }
  await link.until(Promise.all(ends), 100_000);
  await link.pass(2_500);
  const [shown] = weir.policy("throttle").snapshot();
  for (const { requests, accepts, level, streamLevel } of Object.values(shown?.throttles ?? {})) {
    expect([level, streamLevel]).toEqual([undefined, undefined]);
    for (const priority of priorities) {
      expect(accepts[priority]).toBeGreaterThanOrEqual(0);
      expect(accepts[priority]).toBeLessThanOrEqual(requests[priority]);
    }
  }
  if (weir.policy("throttle").mode === "observe") {
    const ours = decisions.filter(({ policy }) => policy === "throttle");
    expect(ours.every(({ enforced }) => !enforced)).toBe(true);
  }
  // Whatever was held back before: nobody's word outlives the calm.
  transport.network.set({ loss: 0 });
  await link.pass(61_000);
  expect((await link.until(start("unary", weir.with({}, { priority: "low" })).ended)).code).toBe(
    Status.OK,
  );
  expect(JSON.stringify(weir.snapshot())).not.toMatch(/"(running|abandoned|queued)":[1-9]/);
  await link.pass(1_100);
  expect(clock.pending.refs).toBe(0);
  expect(link.inFlight()).toBe(0);
  return seen;
}

it("keeps its counts and lets everybody go in the calm, whatever happens at once", async () => {
  const seen = new Set<string>();
  const seeds = Array.from({ length: 20 }, (_, index) => index + 1);
  await forSeeds(seeds, async (seed) => {
    for (const end of await world(seed)) seen.add(end);
  });
  // Of all that can happen, something did.
  const ends = [
    "OK",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "LOAD_SHED",
    "THROTTLED",
    "SERVER_SHEDDING",
  ];
  expect(ends.filter((end) => !seen.has(end))).toEqual([]);
}, 60_000);
