import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { seededRandom } from "../../src/testing/seeded-random.js";
import { handlers, kinds, type Method, scene, startCall } from "../scene.js";

const { RACE_SEEDS, RACE_SEED: only } = process.env;
/** Seeds to run. A seed that fails is a test case: name it in RACE_SEED to run it alone. */
const seeds = Number(RACE_SEEDS ?? 10_000);

const expected: Readonly<Record<Method, readonly number[]>> = {
  unary: [3],
  clientStream: [1, 2, 3],
  serverStream: [1, 2, 3],
  bidiStream: [1, 2, 3],
};

/** One world by one seed: some calls of all kinds through a bad network, with everything going on at once. */
async function world(seed: number): Promise<void> {
  const random = seededRandom(seed);
  const pick = <const T extends readonly unknown[]>(...values: T): T[number] =>
    values[Math.floor(random() * values.length)];
  const chance = (share: number) => random() < share;
  const maxAttempts = pick(1, 2, 3, 5);
  let handled = 0;
  const before = () => {
    handled += 1;
  };
  const loss = pick(0, 0, 0.05);
  const { link, clock, transport, weir, decisions, client } = await scene({
    seed,
    network: {
      latencyMs: pick(0, 3, (draw: () => number) => draw() * 40),
      loss,
      reset: pick(0, 0, 0.1),
      refusal: pick(0, 0, 0.2),
    },
    client: {
      deadline: { defaultMs: 2_000 },
      timeouts: pick(false, {
        attemptMs: 150,
        firstResponseMs: pick(40, 150),
        idleMs: pick(30, 150),
        connectionMs: 100,
      }),
      hedge: pick(false, false, {
        maxAttempts: Math.max(2, maxAttempts),
        delayMs: pick(0, 5, 40),
      }),
      idempotencyKey: pick(false, { honoured: chance(0.5) }),
      retry: pick(false, {
        maxAttempts,
        idempotent: chance(0.7),
        backoff: { baseMs: pick(0, 10, 200), maxMs: 500 },
        maxBufferMessages: pick(0, 1, 1_000),
        budget: pick(false, { ratio: 0.2, minPerSecond: 0, maxTokens: pick(false, 4) }),
      }),
      breaker: pick(false, { consecutiveFailures: 3, openMs: 50 }),
      bulkhead: pick(false, { maxConcurrent: 2, maxQueued: 3, maxWaitMs: 60 }),
    },
    server: {
      deadlineGuard: { minRemainingMs: pick(0, 20) },
      admission: pick(false, {
        streams: pick("together", { limit: 2, maxQueued: 2 }),
        limit: 2,
        maxQueued: pick(0, 2),
        maxWaitMs: 50,
      }),
    },
    handlers: handlers((call, answer) => {
      before();
      const metadata = new Metadata();
      const asked = pick("", "", "30", "-1", "0");
      if (asked !== "") metadata.set("grpc-retry-pushback-ms", asked);
      const end = () => {
        if (chance(0.3)) {
          const code = pick(Status.UNAVAILABLE, Status.RESOURCE_EXHAUSTED, Status.NOT_FOUND);
          call.fail({ code, details: "drawn", metadata });
        } else answer();
      };
      // Some handlers never answer.
      if (chance(0.95)) clock.schedule(random() * 60, end);
    }),
  });
  const calls = Array.from({ length: 6 }, () => {
    const method = pick(...kinds);
    const options = chance(0.3) ? { deadline: clock.wallNow() + random() * 300 } : {};
    // Some callers take their time between messages, so that attempts are decided while they write.
    const gapMs = pick(undefined, undefined, 5, 30);
    const pace =
      gapMs === undefined
        ? undefined
        : (step: () => void) => void clock.schedule(random() * gapMs, step);
    return { method, ...startCall(client, method, options, new Metadata(), pace) };
  });
  const faults = loss > 0 || chance(0.3);
  for (const call of calls) if (chance(0.2)) clock.schedule(random() * 200, () => call.cancel());
  if (faults) {
    if (chance(0.4)) clock.schedule(random() * 100, () => transport.server.crash());
    if (chance(0.4)) clock.schedule(random() * 300, () => transport.server.start());
    if (chance(0.2)) clock.schedule(random() * 200, () => weir.close());
    if (chance(0.2)) clock.schedule(random() * 200, () => client.close());
  }
  const beganMs = clock.now();
  let statuses = 0;
  const ends = calls.map(async ({ method, ended }) => {
    const { code, received } = await ended;
    statuses += 1;
    if (code === Status.OK) expect(received).toEqual(expected[method]);
    else expect(expected[method].slice(0, received.length)).toEqual(received);
  });
  await link.until(Promise.all(ends), 100_000);
  expect(statuses).toBe(calls.length);
  expect(clock.now() - beganMs).toBeLessThanOrEqual(2_000 + 1);
  const attempts = Math.max(2, maxAttempts) * calls.length;
  // grpc-js may try once more by itself where a stream was refused.
  expect(handled).toBeLessThanOrEqual(attempts);
  // Nothing of a call outlives it by more than the way to the server, the slowest handler and writer, and the
  // events that were set above.
  await link.pass(400);
  if (!faults) {
    expect(link.inFlight()).toBe(0);
    expect(clock.pending.refs).toBe(0);
  }
  await link.pass(5_000);
  const numbers = JSON.stringify(weir.snapshot());
  expect(numbers).not.toMatch(/"(running|queued)":[1-9]/);
  expect(weir.snapshot().waiting).toBe(0);
  expect(decisions.every(({ atMs }) => atMs >= beganMs)).toBe(true);
  transport.server.start();
  weir.close();
  await link.close();
  await link.pass(5_000);
  expect(link.inFlight()).toBe(0);
  expect(clock.pending.refs).toBe(0);
}

/**
 * Runs the seeds of one part of several, so that parts can run side by side.
 * @param part From 1.
 */
export function race(part: number, parts: number): void {
  const batches = 10;
  const first = (part - 1) * batches;
  const all = Array.from({ length: seeds }, (_, n) => n + 1);
  const seedsOf = (batch: number) =>
    only === undefined
      ? all.filter((seed) => seed % (batches * parts) === first + batch)
      : part === 1 && batch === 0
        ? [Number(only)]
        : [];
  describe("whatever happens at once", () => {
    it.each(Array.from({ length: batches }, (_, batch) => batch))(
      "each call has one end in time, whole messages in order, and nothing is left (batch %i)",
      async (batch) => {
        for (const seed of seedsOf(batch)) {
          try {
            await world(seed);
          } catch (error) {
            throw new Error(`seed ${seed}`, { cause: error });
          }
        }
      },
      600_000,
    );
  });
}
