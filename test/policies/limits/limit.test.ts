import { describe, expect, it } from "vitest";
import { AimdLimit } from "../../../src/policies/limits/aimd.js";
import { ElasticLimit } from "../../../src/policies/limits/elastic.js";
import { Gradient, Gradient2Limit } from "../../../src/policies/limits/gradient2.js";
import { fixedLimit, type Limit } from "../../../src/policies/limits/limit.js";
import { VegasLimit } from "../../../src/policies/limits/vegas.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";
import { constant, exponential, logNormal, type Stretch, simulate } from "./limit-simulation.js";

// The numbers behind docs/adaptive-limits.md. The server has 50 workers of 20 ms: 2,500 calls a second.
const bounds = { min: 8, max: 500, initial: 500, windowMs: 500 };
const aimd = () => new AimdLimit({ ...bounds, backoffRatio: 0.9, maxLatencyMs: 150 });
const vegas = () => new VegasLimit(bounds, seededRandom(3));
const gradient2 = (busy: () => number) => new Gradient2Limit(bounds, () => busy() > 0.85);
const elastic = (busy: () => number) =>
  new ElasticLimit(bounds, { saturated: () => busy() > 0.85, ceilingMs: () => 150 });
const blind = () => new ElasticLimit(bounds, { saturated: () => false, ceilingMs: () => 150 });
const learning = { aimd, vegas, gradient2, elastic, blind };
type Make = (busy: () => number) => Limit;

const calm: Stretch = { seconds: 30, perSecond: 1_750 };
const overload: Stretch = { seconds: 30, perSecond: 3_750 };
const spike: Stretch = { seconds: 10, perSecond: 10_000 };
const unbounded = { workers: 5_000 };
const slowDependency: Stretch = { seconds: 60, perSecond: 1_750, serviceMs: 100, ...unbounded };

function run(make: Make, ...stretches: Stretch[]) {
  return simulate(make, stretches);
}

/** Windows of half a second, with so many calls that ran beside so many others for so long. */
function fed(limit: Limit) {
  let nowMs = 0;
  return (windows: number, tookMs: number, inFlight: number, perWindow = 30) => {
    for (let call = 0; call < windows * perWindow; call += 1) {
      nowMs += 500 / perWindow;
      limit.record(nowMs, tookMs, inFlight, "success");
    }
  };
}

describe("a limit that learns", () => {
  it.each(Object.entries<Make>(learning))("%s refuses next to nothing in calm", (_name, make) => {
    const [start, , , after] = run(make, calm, calm, overload, calm);
    expect(start?.rejected).toBeLessThan(0.001);
    expect(after?.rejected).toBeLessThan(0.01);
  });

  it.each(Object.entries<Make>(learning))(
    "%s keeps goodput at what the server can do in overload and in a spike",
    (_name, make) => {
      const [, over, , peak] = run(make, calm, overload, calm, spike);
      expect(over?.good).toBeGreaterThan(0.95 * (2_500 / 3_750));
      expect(peak?.good).toBeGreaterThan(0.95 * (2_500 / 10_000));
    },
  );

  it("a limit that is not there serves nobody in time", () => {
    const [, over] = run(() => fixedLimit(1_000_000), calm, overload);
    expect(over?.good).toBeLessThan(0.05);
  });
});

describe("the elastic limit", () => {
  it.each([
    ["exponential", exponential],
    ["log-normal", logNormal],
    ["constant", constant],
  ])("does not take a slow dependency for overload, with %s times", (_name, draw) => {
    const [, slow] = run(elastic, { ...calm, ...unbounded, draw }, { ...slowDependency, draw });
    expect(slow?.rejected).toBeLessThan(0.05);
  });

  it("finds a pool that is full behind it, though this process is idle", () => {
    const [, over] = run(blind, calm, overload);
    expect(over?.limit).toBeLessThan(400);
    expect(over?.p90Ms).toBeLessThan(200);
  });

  it("opens again when the load has gone", () => {
    const [, , after] = run(blind, calm, overload, { ...calm, seconds: 60 });
    expect(after?.limit).toBe(500);
  });

  it("asks less often while the answer stays the same", () => {
    let down = 0;
    let last = 500;
    const counting: Make = (busy) => {
      const limit = elastic(busy);
      return {
        get current() {
          return limit.current;
        },
        record(...sample) {
          limit.record(...sample);
          if (limit.current < last && limit.phase === "trial" && last === 500) down += 1;
          last = limit.current;
        },
      };
    };
    run(counting, { ...calm, ...unbounded }, { ...slowDependency, seconds: 300 });
    // After 15, 30, 60 and 120 seconds.
    expect(down).toBeGreaterThanOrEqual(3);
    expect(down).toBeLessThanOrEqual(6);
  });

  it("without a ceiling holds nothing down that is not saturated", () => {
    const open = () =>
      new ElasticLimit(bounds, { saturated: () => false, ceilingMs: () => undefined });
    const [, over] = run(open, calm, overload);
    expect(over?.limit).toBe(500);
  });
});

describe("the elastic limit without evidence", () => {
  it("holds nothing down when its trial took nothing away, because fewer run than its minimum", () => {
    const limit = new ElasticLimit(
      { min: 8, max: 500, windowMs: 500 },
      { saturated: () => false, ceilingMs: () => 150 },
    );
    const feed = fed(limit);
    feed(4, 200, 6);
    // It tries, and may not.
    expect(limit.current).toBeLessThan(500);
    for (let tries = 0; tries < 40; tries += 1) feed(1, 200, Math.min(6, limit.current));
    expect(limit.current).toBe(500);
  });

  it("takes nothing away in a saturated process whose calls are in time", () => {
    let heldUp = 0;
    const limit = new ElasticLimit(bounds, {
      saturated: () => true,
      ceilingMs: () => 150,
      heldUp: () => heldUp,
    });
    const feed = fed(limit);
    feed(20, 200, 10);
    expect(limit.current).toBe(500);
    expect(limit.phase).toBe("open");
    heldUp = 0.5;
    feed(20, 200, 10);
    expect(limit.current).toBeLessThan(20);
    expect(limit.phase).toBe("saturated");
  });

  it("takes a tenth away with each window while a saturated process holds calls up", () => {
    const limit = new ElasticLimit(bounds, {
      saturated: () => true,
      ceilingMs: () => undefined,
      heldUp: () => 0.5,
    });
    const feed = fed(limit);
    feed(3, 20, 400);
    // From a quarter more than what runs, which is its highest limit.
    expect(limit.current).toBe(450);
    const limits = [1, 2].map(() => {
      feed(1, 20, 400);
      return limit.current;
    });
    expect(limits).toEqual([405, 364]);
  });

  it("starts from what runs again whenever the process has been idle in between", () => {
    let saturated = true;
    const limit = new ElasticLimit(bounds, {
      saturated: () => saturated,
      ceilingMs: () => undefined,
      heldUp: () => (saturated ? 0.5 : 0),
    });
    const feed = fed(limit);
    for (const _time of [1, 2]) {
      saturated = true;
      feed(3, 20, 40);
      expect(limit.phase).toBe("saturated");
      expect(limit.current).toBeLessThanOrEqual(45);
      saturated = false;
      feed(20, 20, 40);
      expect([limit.phase, limit.current]).toEqual(["open", 500]);
    }
  });

  it("takes nothing away from calls that are slow while they are no more than before, until most are late", () => {
    let late = false;
    const limit = new ElasticLimit(bounds, {
      saturated: () => false,
      ceilingMs: () => 150,
      heldUp: () => 0.5,
      demand: () => 20,
      late: () => late,
    });
    const feed = fed(limit);
    feed(40, 200, 60);
    expect(limit.current).toBe(500);
    late = true;
    feed(2, 200, 60);
    expect(limit.current).toBeLessThan(100);
  });

  it("tries with less once slow calls become ever more", () => {
    let demand = 20;
    const limit = new ElasticLimit(bounds, {
      saturated: () => false,
      ceilingMs: () => 150,
      heldUp: () => 0.5,
      demand: () => (demand += 1),
      late: () => false,
    });
    fed(limit)(10, 200, 60);
    expect(limit.current).toBeLessThan(100);
  });

  it("tries with less once slow calls have become ever more for two windows, and not after one", () => {
    let demand = 20;
    // Without a ceiling no surge is seen before its calls have ended.
    const limit = new ElasticLimit(bounds, {
      saturated: () => false,
      ceilingMs: () => undefined,
      heldUp: () => 0.5,
      demand: () => demand,
      late: () => false,
    });
    const feed = fed(limit);
    feed(4, 200, 60);
    demand += 10;
    feed(1, 200, 60);
    expect(limit.phase).toBe("open");
    // No more than chance makes of 30.
    demand += 10;
    feed(2, 200, 60);
    expect(limit.phase).toBe("open");
    demand += 20;
    feed(1, 200, 60);
    demand += 20;
    feed(1, 200, 60);
    expect(limit.phase).toBe("trial");
    // It is over after three windows. As many run as before, so that nothing was learnt.
    feed(2, 200, 60);
    expect(limit.phase).toBe("trial");
    feed(1, 200, 60);
    expect(limit.phase).toBe("open");
    expect(limit.current).toBe(500);
  });

  it("holds calls down that wait for each other, and tries every ten seconds whether more would help", () => {
    const limit = new ElasticLimit(bounds, {
      saturated: () => false,
      ceilingMs: () => undefined,
      heldUp: () => 0.5,
    });
    const feed = fed(limit);
    const phases: string[] = [];
    const limits: number[] = [];
    for (let window = 0; window < 30; window += 1) {
      // As many calls are served whatever the limit is.
      feed(1, 200, Math.min(60, limit.current));
      phases.push(limit.phase);
      limits.push(limit.current);
    }
    const down = phases.indexOf("shrink");
    expect(phases.slice(0, down)).toEqual(["open", "open", "trial", "trial", "trial"]);
    expect(phases.indexOf("trial", down) - down).toBe(20);
    // They are still held up, and so it takes a tenth with each window, down to its floor.
    const [first = 0, second = 0] = limits.slice(down);
    expect(Math.abs(second - 0.9 * first)).toBeLessThan(1);
    expect(Math.min(...limits)).toBe(8);
  });

  it("lets in more while it holds calls down only as long as they take less than 0.6 of the ceiling", () => {
    const limit = new ElasticLimit(bounds, { saturated: () => false, ceilingMs: () => 150 });
    const feed = fed(limit);
    const window = (tookMs: number) => feed(1, tookMs, Math.min(60, limit.current), 300);
    for (let windows = 0; windows < 10 && limit.phase !== "shrink"; windows += 1) window(200);
    expect(limit.phase).toBe("shrink");
    // The first call of a window has ended before the last one closed, at the old limit.
    window(120);
    const down = limit.current;
    for (let windows = 0; windows < 4; windows += 1) window(120);
    expect(limit.current).toBe(down);
    for (let windows = 0; windows < 4; windows += 1) window(60);
    // By half of its root with each window, of which the last one may still be open.
    expect(limit.current - down).toBeGreaterThan(1.4 * Math.sqrt(down));
    expect(limit.current - down).toBeLessThan(2.5 * Math.sqrt(down));
  });

  it("goes by what is held up, and not by callers of whom the ceiling speaks, where both are known", () => {
    const limit = new ElasticLimit(bounds, {
      saturated: () => false,
      ceilingMs: () => 6,
      heldUp: () => 0.1,
    });
    fed(limit)(40, 20, 60);
    expect(limit.current).toBe(500);
  });
});

it("gradient2 takes a tenth at the most in one step, however long calls take", () => {
  const gradient = new Gradient();
  for (let windows = 0; windows < 20; windows += 1) gradient.learn(20);
  const window = { samples: 100, p90Ms: 1_000, goodPerSecond: 100, meanInFlight: 100 };
  // And a fifth of its root comes back.
  expect(gradient.next(100, { ...window, meanMs: 1_000, maxInFlight: 100 })).toBeCloseTo(90 + 2);
});

it("elastic waits 15 seconds after a trial without success, then twice as long each time, up to two minutes", () => {
  const limit = new ElasticLimit(bounds, { saturated: () => false, ceilingMs: () => 150 });
  const feed = fed(limit);
  const startedAtMs: number[] = [];
  for (let window = 1; window <= 900; window += 1) {
    const before = limit.phase;
    // Whatever the limit is, as many run as before.
    feed(1, 200, 60);
    if (limit.phase === "trial" && before !== "trial") startedAtMs.push(500 * window);
  }
  const waitedMs = startedAtMs.slice(1).map((atMs, index) => atMs - (startedAtMs[index] ?? 0));
  // A trial takes three windows.
  const muteMs = waitedMs.map((ms) => Math.floor((ms - 1_500) / 1_000) * 1_000);
  expect(muteMs).toEqual([15_000, 30_000, 60_000, 120_000, 120_000]);
});

describe("gradient2 with a gate", () => {
  it("starts from a quarter more than what runs whenever the process becomes saturated", () => {
    let saturated = false;
    const limit = new Gradient2Limit(bounds, () => saturated);
    const feed = fed(limit);
    for (let times = 0; times < 2; times += 1) {
      feed(3, 20, 40);
      saturated = true;
      feed(1, 20, 40);
      expect(limit.current).toBe(51);
      saturated = false;
      // It makes room for what runs, and keeps the room.
      feed(2, 20, 320);
      expect(limit.current).toBe(400);
    }
  });

  it("lets a slow dependency be slow", () => {
    const [, slow] = run(gradient2, { ...calm, ...unbounded }, slowDependency);
    expect(slow?.rejected).toBe(0);
  });

  it("without the gate would refuse most calls of it", () => {
    const always = () => new Gradient2Limit(bounds, () => true);
    const [, slow] = run(always, { ...calm, ...unbounded }, slowDependency);
    expect(slow?.rejected).toBeGreaterThan(0.3);
  });
});

describe.each<[string, () => Limit]>([
  ["gradient2", () => new Gradient2Limit(bounds, () => true)],
  [
    "elastic with a ceiling",
    () => new ElasticLimit(bounds, { saturated: () => true, ceilingMs: () => 150 }),
  ],
  [
    "elastic without a ceiling",
    () => new ElasticLimit(bounds, { saturated: () => true, ceilingMs: () => undefined }),
  ],
])("%s in a process that is saturated", (_name, make) => {
  /** The first window is left out; when the second closes, the limit starts from a quarter more than what runs. */
  function started() {
    const limit = make();
    const feed = fed(limit);
    feed(3, 20, 40, 1_000);
    expect(limit.current).toBe(51);
    /** So many windows of calls that run as many as the limit allows. */
    const full = (windows: number, tookMs: number, perWindow = 1_000) => {
      for (let window = 0; window < windows; window += 1) {
        feed(1, tookMs, limit.current, perWindow);
      }
    };
    return { limit, feed, full };
  }

  it("grows by a fifth of its root with each window whose calls take no longer than usual", () => {
    const { limit, full } = started();
    full(40, 20);
    const expected = (Math.sqrt(51) + 40 / 10) ** 2;
    expect(limit.current).toBeGreaterThan(0.98 * expected);
    expect(limit.current).toBeLessThan(1.02 * expected);
  });

  it("grows again when calls that had to wait take their usual time again", () => {
    const { limit, full } = started();
    full(20, 20);
    const before = limit.current;
    full(6, 120, 250);
    const down = limit.current;
    expect(down).toBeLessThan(0.8 * before);
    full(40, 20);
    expect(limit.current).toBeGreaterThan(1.5 * down);
  });

  it("does not grow while fewer than half of what it allows run", () => {
    const { limit, feed } = started();
    // One call of the window before still counts to the next.
    feed(1, 20, 25, 1_000);
    const before = limit.current;
    feed(20, 20, 25, 1_000);
    expect(limit.current).toBe(before);
  });
});

describe("Vegas", () => {
  /** A limit of 100 whose calls took 20 ms at the least, after one window more. */
  function limitAfter(
    tookMs: number,
    inFlight: number,
    outcome: "success" | "failure" = "success",
  ) {
    const limit = new VegasLimit({ ...bounds, initial: 100 }, () => 0);
    let nowMs = 0;
    limit.record(nowMs, 20, 100, "success");
    const window = (took: number, running: number, ended: "success" | "failure") => {
      for (let call = 1; call <= 10; call += 1) {
        nowMs += 50;
        limit.record(nowMs, took, running, call === 1 ? ended : "success");
      }
    };
    // The first window is left out, and the second says what the shortest time is.
    window(20, 100, "success");
    window(20, 100, "success");
    window(tookMs, inFlight, outcome);
    return limit.current;
  }

  it.each([
    ["none waits", 20, 112],
    ["two wait", 20.4, 112],
    ["four wait", 20.7, 102],
    ["six wait", 21.2, 100],
    ["twelve wait", 22.7, 100],
    ["thirteen wait", 22.8, 98],
  ])("goes by how many of its 100 calls wait: %s, at %d ms", (_what, tookMs, expected) => {
    expect(limitAfter(tookMs, 100)).toBe(expected);
  });

  it("stays while fewer than half of what it allows run, and steps down after a failure all the same", () => {
    expect(limitAfter(20, 50)).toBe(112);
    expect(limitAfter(20, 49)).toBe(100);
    expect(limitAfter(20, 100, "failure")).toBe(98);
    expect(limitAfter(20, 49, "failure")).toBe(98);
  });

  it("takes a dependency that is slower for good as normal, once it has looked anew", () => {
    const limit = new VegasLimit({ ...bounds, initial: 100 }, () => 0);
    const feed = fed(limit);
    feed(3, 20, 100);
    const before = limit.current;
    // Half of thirty limits' worth of calls, at most, and it takes what it then sees for the shortest time.
    const callsToProbe = 15 * before;
    for (let calls = 0; calls < callsToProbe; calls += 30) feed(1, 60, limit.current);
    const down = limit.current;
    expect(down).toBeLessThan(before);
    for (let calls = 0; calls < 600; calls += 30) feed(1, 60, limit.current);
    expect(limit.current).toBeGreaterThan(down);
  });
});

describe("AIMD", () => {
  it("steps down once for calls that were admitted before the step", () => {
    const limit = aimd();
    for (let call = 0; call < 50; call += 1) limit.record(10_000, 200, 400, "success");
    expect(limit.current).toBe(450);
    limit.record(10_100, 50, 400, "failure");
    expect(limit.current).toBe(405);
  });

  it("takes a call that was admitted at the step, and one that takes longer than it may, for a failure", () => {
    const limit = aimd();
    limit.record(10_000, 150, 400, "failure");
    limit.record(10_100, 100, 400, "failure");
    expect(limit.current).toBe(405);
    limit.record(10_300, 150, 1, "success");
    expect(limit.current).toBe(405);
    limit.record(10_300, 151, 1, "success");
    expect(limit.current).toBe(364);
  });

  it("keeps to its bounds", () => {
    const limit = aimd();
    limit.record(0, 10, 500, "success");
    expect(limit.current).toBe(500);
    for (let second = 1; second < 100; second += 1)
      limit.record(second * 1_000, 10, 500, "failure");
    expect(limit.current).toBe(8);
  });

  it("grows only while it is in use", () => {
    const limit = new AimdLimit({
      min: 1,
      max: 100,
      initial: 10,
      backoffRatio: 0.5,
      maxLatencyMs: 1_000,
    });
    limit.record(0, 10, 4, "success");
    expect(limit.current).toBe(10);
    limit.record(0, 10, 5, "success");
    expect(limit.current).toBe(11);
  });
});

describe("the elastic limit that knows what runs", () => {
  /** A pool of 500 calls a second of which half is used, and then ten times as much comes as it can do. */
  function step(runningKnown: boolean) {
    let demand = 5;
    const signals = { saturated: () => false, ceilingMs: () => 150, demand: () => demand };
    const { demand: _, ...blindSignals } = signals;
    const limit = new ElasticLimit(bounds, runningKnown ? signals : blindSignals);
    for (let ms = 0; ms < 2_000; ms += 4) limit.record(ms, 20, 5, "success");
    for (let ms = 2; ms < 400; ms += 2) {
      demand = 5 + Math.round(4.5 * ms);
      limit.record(2_000 + ms, 20 + Math.min(ms, 150), 5 + ms / 2, "success");
      if (limit.current < 500) return { atMs: ms, limit: limit.current, phase: limit.phase };
    }
    return undefined;
  }

  it("sees a surge that meets a limit before the calls of it have ended, and lets in what fits", () => {
    const seen = step(true);
    expect(seen?.atMs).toBeLessThan(60);
    // 500 a second for 0.6 of the ceiling of 150 ms.
    expect(seen?.limit).toBeGreaterThan(40);
    expect(seen?.limit).toBeLessThan(50);
    expect(seen?.phase).toBe("shrink");
  });

  it("would not in that time without", () => {
    expect(step(false)).toBeUndefined();
  });
});

describe("the ramp of an elastic limit", () => {
  /** Calls of 20 ms, and then some windows of others. */
  function rampAfter(tookMs: number, saturated = false): number {
    let busy = false;
    const signals = { saturated: () => busy, ceilingMs: () => 150, demand: () => 5 };
    const limit = new ElasticLimit(bounds, signals);
    for (let ms = 0; ms < 2_000; ms += 4) limit.record(ms, 20, 5, "success");
    busy = saturated;
    for (let ms = 2_000; ms < 3_200; ms += 4) limit.record(ms, tookMs, 5, "success");
    return limit.ramp;
  }

  it("holds in calm", () => {
    expect(rampAfter(20)).toBe(32);
  });

  it("gives way when the limit itself has something to hold down", () => {
    expect(rampAfter(200)).toBe(Number.POSITIVE_INFINITY);
    expect(rampAfter(20, true)).toBe(Number.POSITIVE_INFINITY);
  });
});

describe("an elastic limit that starts", () => {
  it("into an overload sees it without having seen any calm", () => {
    let demand = 0;
    const signals = { saturated: () => false, ceilingMs: () => 150, demand: () => demand };
    const limit = new ElasticLimit(bounds, signals);
    for (let ms = 20; limit.current === 500 && ms < 400; ms += 2) {
      demand = Math.round(4.5 * ms);
      limit.record(ms, Math.min(ms, 300), ms / 2, "success");
    }
    expect(limit.current).toBeGreaterThan(40);
    expect(limit.current).toBeLessThan(50);
    expect(demand).toBeLessThan(400);
  });
});

describe.each([
  ["gradient2", () => new Gradient2Limit(bounds, () => true)],
  ["elastic", () => new ElasticLimit(bounds, { saturated: () => true, ceilingMs: () => 150 })],
] as const)("%s on a clock of whole milliseconds", (_name, make) => {
  it("takes calls that need no time for what they are", () => {
    const limit = make();
    for (let ms = 0; ms < 5_000; ms += 1) limit.record(ms, 0, 500, "success");
    expect(limit.current).toBeGreaterThanOrEqual(bounds.min);
    for (let ms = 5_000; ms < 9_000; ms += 1) limit.record(ms, 20, 500, "success");
    expect(limit.current).toBeGreaterThanOrEqual(bounds.min);
  });
});

it("the ramp of elastic gives way where it holds calls back behind others that do not end", () => {
  const limit = new ElasticLimit(bounds, {
    saturated: () => false,
    ceilingMs: () => 150,
    demand: () => 100,
  });
  for (let ms = 0; ms < 2_000; ms += 10) limit.record(ms, 20, 2, "success");
  const before = limit.ramp;
  expect(before).toBeLessThan(Infinity);
  for (let ms = 2_000; ms < 2_600; ms += 10) limit.rampHolds(ms);
  expect(limit.ramp).toBe(4 * before);
});
