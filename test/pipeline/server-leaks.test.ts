import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Metadata, status as Status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { seededRandom } from "../../src/testing/clock/seeded-random.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { handlers, kinds, scene } from "../scene.js";

setFlagsFromString("--expose-gc");
const collectGarbage: () => void = runInNewContext("gc");

const bare = { retry: false, breaker: false } as const;
/** Numbers of snapshots that say what is out or waits now. */
const out = /"(running|abandoned|queued|asking|probesOut|active|inFlight|waiting)":(?!0[,}])/;

function usedMiB(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed / 2 ** 20;
}

describe("through a client and a server", () => {
  it("thousands of calls that end in every way give everything back", async () => {
    const random = seededRandom(3);
    const clock = new VirtualClock();
    const { start, link, weir } = await scene({
      clock,
      client: {
        retry: { idempotent: true, maxAttempts: 2, backoff: { baseMs: 5 } },
        breaker: { consecutiveFailures: 4, openMs: 20 },
        throttle: { windowMs: 1_000, minCalls: 20 },
        rate: { ratePerSecond: 2_000, burst: 30, maxWaitMs: 20 },
        bulkhead: { maxConcurrent: 40, maxQueued: 20, maxWaitMs: 20, streams: {} },
      },
      server: {
        deadlineGuard: { learned: { mode: "enforce", minCalls: 5 } },
        quota: { ratePerSecond: 5_000, burst: 50, maxWaitMs: 10 },
        bulkhead: { maxConcurrent: 20, maxQueued: 10, maxWaitMs: 20 },
        admission: {
          limit: { algorithm: "elastic", min: 2, max: 12, ceilingMs: 30 },
          maxQueued: 5,
          maxWaitMs: 15,
          queue: { order: "adaptive-lifo", overflow: "age-out", intervalMs: 20 },
          streams: { limit: 8, maxQueued: 4, maxWaitMs: 15, maxAgeMs: 25 },
        },
      },
      handlers: handlers((call, answer) => {
        const chance = random();
        if (chance < 0.02) return;
        clock.schedule(random() * 20, () => {
          if (chance < 0.15) call.fail({ code: Status.UNAVAILABLE, details: "drawn" });
          else answer();
        });
      }),
    });
    let ended = 0;
    const codes = new Set<Status>();
    const wave = () =>
      Array.from({ length: 40 }, async () => {
        const metadata = new Metadata();
        metadata.set("x-request-priority", ["critical", "high", "low"][ended % 3] ?? "normal");
        const kind = kinds[Math.floor(random() * 4)] ?? "unary";
        const call = start(kind, { deadline: clock.wallNow() + 5 + random() * 100 }, metadata);
        if (random() < 0.15) clock.schedule(random() * 20, call.cancel);
        codes.add((await call.ended).code);
        ended += 1;
      });
    for (let waves = 0; waves < 50; waves += 1) {
      const running = wave();
      await clock.pass(random() * 30);
      await link.until(Promise.all(running), 10_000);
    }
    expect(ended).toBe(2_000);
    for (const code of [Status.OK, Status.CANCELLED, Status.DEADLINE_EXCEEDED]) {
      expect(codes).toContain(code);
    }
    await clock.pass(1_000);
    expect(link.inFlight()).toBe(0);
    expect(clock.pending.refs).toBe(0);
    expect(JSON.stringify(weir.snapshot())).not.toMatch(out);
    const report = weir.drain({ tryShutdown: (done) => done(), forceShutdown: () => {} });
    expect(await report).toMatchObject({ inFlight: 0 });
  }, 60_000);

  it("five thousand callers who vanish while they are queued cost no handler, no slot and no memory", async () => {
    const clock = new VirtualClock();
    let handled = 0;
    let end: (() => void) | undefined;
    const { start, call, link, weir } = await scene({
      clock,
      client: bare,
      server: {
        admission: { limit: 1, maxQueued: 10_000, maxWaitMs: 60_000, thresholds: false },
      },
      handlers: handlers((_call, answer) => {
        handled += 1;
        if (end === undefined) end = answer;
        else answer();
      }),
    });
    const running = start("unary");
    await clock.pass(1);
    /** So many calls queue and vanish: all at once, or as their deadlines pass. */
    const vanish = async (count: number, how: "cancelled" | "expired") => {
      const options = how === "expired" ? { deadline: clock.wallNow() + 500 } : {};
      const calls = Array.from({ length: count }, () => start("unary", options));
      await clock.pass(1);
      expect(weir.policy("admission").snapshot()[0]).toMatchObject({ running: 1, queued: count });
      if (how === "cancelled") for (const each of calls) each.cancel();
      const codes = (await link.until(Promise.all(calls.map((each) => each.ended)))).map(
        ({ code }) => code,
      );
      const code = how === "expired" ? Status.DEADLINE_EXCEEDED : Status.CANCELLED;
      expect(codes.every((each) => each === code)).toBe(true);
      await clock.pass(10);
      expect(link.inFlight()).toBe(2); // The one that runs, as the client and the server see it.
      expect(weir.policy("admission").snapshot()[0]).toMatchObject({ running: 1, queued: 0 });
      expect(clock.pending.refs).toBe(0);
    };
    await vanish(500, "cancelled");
    await vanish(500, "expired");
    const before = usedMiB();
    await vanish(2_500, "cancelled");
    await vanish(2_500, "expired");
    expect(usedMiB() - before).toBeLessThan(3);
    expect(handled).toBe(1);
    end?.();
    expect((await link.until(running.ended)).code).toBe(Status.OK);
    expect((await call("unary")).code).toBe(Status.OK);
    expect(handled).toBe(2);
    expect(JSON.stringify(weir.snapshot())).not.toMatch(out);
  }, 60_000);
});
