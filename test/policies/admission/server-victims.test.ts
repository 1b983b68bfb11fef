import { Metadata } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import type { AdmissionPolicySnapshot } from "../../../src/policies/admission/server.js";
import type { Readings } from "../../../src/policies/pressure/options.js";
import { handlers, type Scene, scene } from "../../scene.js";

const calm: Readings = { eventLoop: 0.1, loopDelayMs: 1, cpu: 0.1, memory: 0.1 };

interface World {
  readonly made: Scene;
  tookMs: number;
  readings: Readings;
  /** So many calls a second for some seconds. Answers with how they ended. */
  readonly load: (
    perSecond: number,
    seconds: number,
    deadlineOf: (index: number) => number,
  ) => Promise<Record<string, number>>;
  readonly burst: (count: number, deadlineMs: number) => Promise<Record<string, number>>;
  readonly snapshot: () => AdmissionPolicySnapshot;
}

/** A server with the default admission whose handlers only take their time. */
async function world(): Promise<World> {
  const made = await scene({
    client: { retry: false, breaker: false },
    server: { admission: { pressure: { reader: { read: () => self.readings } } } },
    handlers: handlers((_call, answer) => void made.clock.schedule(self.tookMs, answer)),
  });
  const { clock, link, start, weir } = made;
  const one = async (deadlineMs: number): Promise<string> => {
    const deadline = clock.wallNow() + deadlineMs;
    const { code, error } = await start("unary", { deadline }, new Metadata()).ended;
    return code === 0 ? "OK" : (rejectionOf(error)?.reason ?? String(code));
  };
  const tally = async (calls: Promise<string>[]) => {
    const counts: Record<string, number> = {};
    for (const end of await link.until(Promise.all(calls), 1e9))
      counts[end] = (counts[end] ?? 0) + 1;
    return counts;
  };
  const self: World = {
    made,
    tookMs: 20,
    readings: calm,
    load: async (perSecond, seconds, deadlineOf) => {
      const calls: Promise<string>[] = [];
      for (let index = 0; index < perSecond * seconds; index += 1) {
        calls.push(one(deadlineOf(index)));
        await clock.pass(1_000 / perSecond);
      }
      return tally(calls);
    },
    burst: (count, deadlineMs) => tally(Array.from({ length: count }, () => one(deadlineMs))),
    snapshot: () => {
      const { instances: [first] = [] } = weir.snapshot().policies.admission ?? {};
      return first as AdmissionPolicySnapshot;
    },
  };
  return self;
}

describe("the default admission, where nothing is contended", () => {
  it.each([3_000, 1_000])(
    "serves handlers that take 600 ms, with deadlines of %d ms",
    async (ms) => {
      const self = await world();
      self.tookMs = 600;
      expect(await self.load(10, 15, () => ms)).toEqual({ OK: 150 });
      expect(await self.load(60, 15, () => ms)).toEqual({ OK: 900 });
      expect(self.snapshot().limit).toBe(1_000);
    },
  );

  it.each([
    ["answers from a cache, or asks", 2, 600, 5, 1_000],
    [
      "answers, or works for seconds for callers who give no time",
      5,
      2_000,
      5,
      Number.POSITIVE_INFINITY,
    ],
  ])("serves a method that %s", async (_what, quickMs, slowMs, each, leftMs) => {
    const self = await world();
    const mixed = (count: number) => {
      self.tookMs = count % each === 0 ? slowMs : quickMs;
      return leftMs;
    };
    expect(await self.load(100, 20, mixed)).toEqual({ OK: 2_000 });
    expect(self.snapshot().limit).toBe(1_000);
  });

  it("serves while a dependency is slow for a while, and nobody is late", async () => {
    const self = await world();
    await self.load(100, 5, () => 2_000);
    self.tookMs = 1_500;
    const { OK = 0 } = await self.load(100, 15, () => 2_000);
    // Some wait for the ramp, at the moment when it becomes slow.
    expect(OK).toBeGreaterThan(1_450);
    expect(self.snapshot().limit).toBe(1_000);
  });

  it("serves a burst after most callers have asked for what cannot be", async () => {
    const self = await world();
    const { OK } = await self.load(250, 8, (index) => (index % 5 < 3 ? 12 : 2_000));
    expect(OK).toBe(800);
    expect(self.snapshot().limit).toBe(1_000);
    expect(await self.burst(300, 2_000)).toEqual({ OK: 300 });
  });

  it.each([
    ["pauses of the event loop", { ...calm, eventLoop: 0.4, loopDelayMs: 300 }],
    ["a busy event loop that is late", { ...calm, eventLoop: 1, loopDelayMs: 300 }],
    ["a throttled container", { ...calm, cpu: 1, loopDelayMs: 300 }],
    ["memory that is nearly full", { ...calm, memory: 0.99 }],
  ])("refuses nobody for %s while calls are in time", async (_what, readings) => {
    const self = await world();
    self.tookMs = 5;
    await self.load(50, 2, () => 2_000);
    self.readings = readings;
    expect(await self.load(50, 10, () => 2_000)).toEqual({ OK: 500 });
    expect(self.snapshot().shedShare).toBe(0);
  });

  it("sheds under the same pressure once calls run out of a time that usually does", async () => {
    const self = await world();
    self.tookMs = 5;
    await self.load(50, 2, () => 200);
    self.readings = { ...calm, eventLoop: 1, loopDelayMs: 300 };
    self.tookMs = 300;
    const { LOAD_SHED = 0 } = await self.load(50, 10, () => 200);
    expect(LOAD_SHED).toBeGreaterThan(100);
    // And lets all in again when they are served in time.
    self.tookMs = 5;
    await self.load(50, 6, () => 200);
    expect(await self.load(50, 2, () => 200)).toEqual({ OK: 100 });
  });
});
