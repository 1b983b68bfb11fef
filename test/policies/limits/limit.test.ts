import { describe, expect, it } from "vitest";
import { AimdLimit } from "../../../src/policies/limits/aimd.js";
import { ElasticLimit, type ElasticSignals } from "../../../src/policies/limits/elastic.js";
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
/** Of calls that run or wait nothing is known unless it is said: there are none. */
const elasticLimit = (
  options: Omit<typeof bounds, "initial">,
  signals: Omit<ElasticSignals, "demand"> & Partial<ElasticSignals>,
) => new ElasticLimit(options, { demand: () => 0, ...signals });
const elastic = (busy: () => number) =>
  elasticLimit(bounds, { saturated: () => busy() > 0.85, ceilingMs: () => 150 });
const blind = () => elasticLimit(bounds, { saturated: () => false, ceilingMs: () => 150 });
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
    const open = () => elasticLimit(bounds, { saturated: () => false, ceilingMs: () => undefined });
    const [, over] = run(open, calm, overload);
    expect(over?.limit).toBe(500);
  });
});

describe("the elastic limit without evidence", () => {
  it("holds nothing down when its trial took nothing away, because fewer run than its minimum", () => {
    const limit = elasticLimit(
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
    const limit = elasticLimit(bounds, {
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
    const limit = elasticLimit(bounds, {
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
    const limit = elasticLimit(bounds, {
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
    const limit = elasticLimit(bounds, {
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
    const limit = elasticLimit(bounds, {
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
    const limit = elasticLimit(bounds, {
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
    const limit = elasticLimit(bounds, {
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
    // A trial takes away twice 15 %, and the one with more adds 40 % for three windows. Here more did not help.
    expect(limits.slice(2, 5)).toEqual([51, 43, 43]);
    expect(limits.slice(down + 20, down + 24)).toEqual([11, 11, 11, 8]);
    expect(phases[down + 23]).toBe("shrink");
  });

  it("goes down to what is served within 0.6 of the ceiling, once a trial has found that calls wait for each other", () => {
    const limit = elasticLimit(bounds, { saturated: () => false, ceilingMs: () => 150 });
    const feed = fed(limit);
    const limits: number[] = [];
    for (let window = 0; window < 6; window += 1) {
      feed(1, 200, Math.min(60, limit.current), 150);
      limits.push(limit.current);
    }
    // Of nearly 300 calls a second, in 90 ms.
    expect(limits).toEqual([500, 500, 51, 43, 43, 26]);
  });

  it("opens again by a quarter with each window, once fewer than half of what it allows run", () => {
    const limit = elasticLimit(bounds, {
      saturated: () => false,
      ceilingMs: () => undefined,
      heldUp: () => 0.5,
      late: () => limit.current === 500,
    });
    const feed = fed(limit);
    for (let windows = 0; limit.phase !== "shrink"; windows += 1) {
      expect(windows).toBeLessThan(10);
      feed(1, 200, Math.min(60, limit.current));
    }
    const seen = [1, 2, 3, 4].map(() => {
      feed(1, 20, 15);
      return `${limit.phase} ${limit.current}`;
    });
    // The first call of a window has ended before the last one closed, so the first one goes on as before.
    expect(seen).toEqual(["shrink 39", "open 48", "open 60", "open 76"]);
  });

  it("learns nothing from a trial with more, where no more run than before", () => {
    const limit = elasticLimit(bounds, {
      saturated: () => false,
      ceilingMs: () => 250,
      heldUp: () => (limit.phase === "open" && limit.current === 500 ? 0.5 : 0),
    });
    const feed = fed(limit);
    const phases: string[] = [];
    for (let window = 0; window < 40; window += 1) {
      feed(1, 200, limit.phase === "open" ? 60 : Math.min(30, limit.current), 150);
      if (phases.at(-1) !== limit.phase) phases.push(limit.phase);
    }
    expect(phases).toEqual(["open", "trial", "shrink", "trial", "open"]);
  });

  it.each([
    [0.1, "open"],
    [0.11, "trial"],
  ])("takes a share of %d that is held up for what it is: %s", (heldUp, expected) => {
    const limit = elasticLimit(bounds, {
      saturated: () => false,
      ceilingMs: () => undefined,
      heldUp: () => heldUp,
    });
    fed(limit)(3, 20, 60);
    expect(limit.phase).toBe(expected);
  });

  it.each<[string, "success" | "failure", "success" | "failure"]>([
    ["before nor in a trial", "failure", "failure"],
    ["in a trial", "success", "failure"],
    ["before a trial", "failure", "success"],
  ])(
    "takes calls for such as wait for each other, where none is in time %s",
    (_when, before, then) => {
      const limit = elasticLimit(bounds, {
        saturated: () => false,
        ceilingMs: () => undefined,
        heldUp: () => 0.5,
      });
      let nowMs = 0;
      const feedUntil = (untilMs: number, outcome: "success" | "failure") => {
        for (; nowMs < untilMs; nowMs += 20) {
          limit.record(nowMs, 200, Math.min(60, limit.current), outcome);
        }
        return limit.phase;
      };
      expect([feedUntil(1_020, before), feedUntil(2_540, then)]).toEqual(["trial", "shrink"]);
    },
  );

  it("knows nothing of a trial any more, once the process has been saturated", () => {
    let saturated = false;
    let heldUp = 0.5;
    const limit = elasticLimit(bounds, {
      saturated: () => saturated,
      ceilingMs: () => undefined,
      heldUp: () => heldUp,
    });
    const feed = fed(limit);
    feed(3, 200, 60);
    expect(limit.phase).toBe("trial");
    saturated = true;
    feed(1, 200, 40);
    expect(limit.phase).toBe("saturated");
    heldUp = 0;
    const before = limit.current;
    feed(1, 20, 40);
    expect(limit.phase).toBe("open");
    expect(limit.current / before).toBeCloseTo(1.25, 1);
  });

  it("lets in no more than is served within 0.6 of the ceiling while the process is saturated", () => {
    const limit = elasticLimit(bounds, { saturated: () => true, ceilingMs: () => 150 });
    const feed = fed(limit);
    feed(3, 20, 400, 2_000);
    // Of 4,000 calls a second, in 90 ms.
    expect(limit.current).toBe(360);
  });

  it("lets in more while it holds calls down only as long as they take less than 0.6 of the ceiling", () => {
    const limit = elasticLimit(bounds, { saturated: () => false, ceilingMs: () => 150 });
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
    const limit = elasticLimit(bounds, {
      saturated: () => false,
      ceilingMs: () => 6,
      heldUp: () => 0.1,
    });
    fed(limit)(40, 20, 60);
    expect(limit.current).toBe(500);
  });
});

describe("the step of gradient2", () => {
  const window = { samples: 100, p90Ms: 0, goodPerSecond: 100, meanInFlight: 100 };
  /** The limit of 10,000 after windows of calls that took so long, and one more. */
  const next = (windowsMs: readonly number[], lastMs: number, running = 10_000) => {
    const gradient = new Gradient();
    for (const ms of windowsMs) gradient.learn(ms);
    return gradient.next(10_000, { ...window, meanMs: lastMs, maxInFlight: running });
  };
  /** What it takes for the usual time, seen from the step that calls of another time make. */
  const usualMs = (windowsMs: readonly number[], lastMs: number) => {
    const ratio = (next(windowsMs, lastMs) - 8_000 - 20) / 2_000;
    return (ratio * lastMs) / 1.5;
  };

  it.each<[string, number[], number, number]>([
    ["the mean of the first ten windows", Array(9).fill(10), 20, 11],
    ["weighted by a sixth from the eleventh on", Array(10).fill(10), 22, 12],
    [
      "weighted as one of six hundred windows in the long run",
      Array(1_500).fill(10),
      20,
      10 + 20 / 601,
    ],
    [
      "brought down faster, while it is more than twice the present time",
      [...Array(10).fill(100), 10],
      200,
      76.5 + (123.5 * 2) / 13,
    ],
    [
      "brought down no faster, where it is twice the present time",
      [...Array(10).fill(22), 10],
      40,
      20 + (20 * 2) / 13,
    ],
  ])("goes by a usual time that is %s", (_what, windowsMs, lastMs, expected) => {
    expect(usualMs(windowsMs, lastMs)).toBeCloseTo(expected, 4);
  });

  it("takes calls that need half a millisecond, or no time at all, for what they are", () => {
    expect(next(Array(20).fill(0.1), 0.5)).toBeCloseTo(9_020);
    expect(next(Array(20).fill(0.1), 0)).toBeCloseTo(10_020);
  });

  it("is made while half of what it allows runs, and not below", () => {
    expect(next([20], 20, 5_000)).toBeCloseTo(10_020);
    expect(next([20], 20, 4_999)).toBe(10_000);
  });
});

it.each<[string, number, () => Limit]>([
  ["vegas", 3 * 10, () => new VegasLimit(bounds, () => 0)],
  ["gradient2", 2 * 20, () => new Gradient2Limit(bounds, () => true)],
  ["elastic", 2 * 20, () => elasticLimit(bounds, { saturated: () => false, ceilingMs: () => 150 })],
])(
  "%s looks at no fewer calls than tell something, however slowly they come",
  (_name, expected, make) => {
    const limit = make();
    let calls = 0;
    for (; limit.current === 500; calls += 1) limit.record(600 * calls, 200, 20, "failure");
    // The first window is left out, and the second tells vegas the shortest time.
    expect(calls).toBe(expected);
  },
);

it("gradient2 takes a tenth at the most in one step, however long calls take", () => {
  const gradient = new Gradient();
  for (let windows = 0; windows < 20; windows += 1) gradient.learn(20);
  const window = { samples: 100, p90Ms: 1_000, goodPerSecond: 100, meanInFlight: 100 };
  // And a fifth of its root comes back.
  expect(gradient.next(100, { ...window, meanMs: 1_000, maxInFlight: 100 })).toBeCloseTo(90 + 2);
});

it("elastic waits 15 seconds after a trial without success, then twice as long each time, up to two minutes", () => {
  const limit = elasticLimit(bounds, { saturated: () => false, ceilingMs: () => 150 });
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

it("elastic waits 15 seconds again after a trial, where calls were in time since the one before", () => {
  let tookMs = 200;
  const limit = elasticLimit(bounds, { saturated: () => false, ceilingMs: () => 150 });
  const feed = fed(limit);
  /** How long it takes from the end of a trial to the next one. */
  const muteMs = () => {
    let windows = 0;
    for (; limit.phase !== "trial"; windows += 1) {
      expect(windows).toBeLessThan(300);
      feed(1, tookMs, 60);
    }
    while (limit.phase === "trial") feed(1, tookMs, 60);
    return 500 * windows;
  };
  muteMs();
  expect(muteMs()).toBeGreaterThanOrEqual(15_000);
  expect(muteMs()).toBeGreaterThanOrEqual(30_000);
  tookMs = 20;
  feed(150, tookMs, 60);
  tookMs = 200;
  muteMs();
  expect(muteMs()).toBeLessThan(20_000);
});

describe.each<[string, (saturated: () => boolean) => Limit]>([
  ["gradient2", (saturated) => new Gradient2Limit(bounds, saturated)],
  ["elastic", (saturated) => elasticLimit(bounds, { saturated, ceilingMs: () => undefined })],
])("%s that becomes saturated", (_name, make) => {
  it("knows how long calls took before that", () => {
    let saturated = false;
    const limit = make(() => saturated);
    const feed = fed(limit);
    feed(20, 20, 100);
    saturated = true;
    feed(2, 80, 100);
    // From a quarter more than what runs it takes a tenth, as calls take four times as long.
    expect(limit.current).toBeLessThan(120);
  });
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
    () => elasticLimit(bounds, { saturated: () => true, ceilingMs: () => 150 }),
  ],
  [
    "elastic without a ceiling",
    () => elasticLimit(bounds, { saturated: () => true, ceilingMs: () => undefined }),
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

  it("steps down once for a failure, and allows whole calls", () => {
    const limit = new VegasLimit({ ...bounds, initial: 50 }, () => 0);
    let nowMs = 0;
    const window = (outcome: "success" | "failure") => {
      for (let call = 1; call <= 10; call += 1) {
        nowMs += 50;
        limit.record(nowMs, 20, 50, call === 5 ? outcome : "success");
      }
      return limit.current;
    };
    limit.record(0, 20, 50, "success");
    window("success");
    window("success");
    // A step is the logarithm of the limit: 1.7 for 50. Up it takes six of them.
    expect([window("failure"), window("success"), window("success")]).toEqual([48, 58, 69]);
  });

  it("makes steps of one at least", () => {
    const limit = new VegasLimit({ min: 1, max: 100, initial: 5, windowMs: 500 }, () => 0);
    const feed = fed(limit);
    feed(3, 20, 5, 10);
    expect(limit.current).toBe(5);
    feed(1, 20, 5, 10);
    expect(limit.current).toBe(11);
  });

  it.each([
    ["fifteen", 0, 150],
    ["nearly thirty", 1 - 2 ** -32, 300],
  ])("measures the shortest time anew after %s times its limit of calls", (_times, draw, calls) => {
    /** Whether it takes slow calls for waiting calls, after so many calls in three windows, and again after so many. */
    const stepsDown = (...counts: number[]) => {
      const limit = new VegasLimit({ min: 1, max: 10, initial: 10, windowMs: 500 }, () => draw);
      let nowMs = 0;
      let tookMs = 20;
      const window = (count: number) => {
        for (let call = 1; call < count; call += 1) limit.record(nowMs + 1, tookMs, 10, "success");
        nowMs += 500;
        limit.record(nowMs, tookMs, 10, "success");
      };
      limit.record(0, tookMs, 10, "success");
      window(10);
      window(10);
      return counts.map((count, index) => {
        const before = limit.current;
        tookMs *= 10;
        window(index === 0 ? count - 21 : count);
        return limit.current < before;
      });
    };
    expect(stepsDown(calls - 1)).toEqual([true]);
    expect(stepsDown(calls, calls - 1)).toEqual([false, true]);
    expect(stepsDown(calls, calls)).toEqual([false, false]);
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
  function step({
    runningKnown = true,
    ceilingMs = (): number | undefined => 150,
    slowMs = 0,
  } = {}) {
    let demand = 5;
    const signals = { saturated: () => false, ceilingMs };
    const limit = elasticLimit(bounds, {
      ...signals,
      ...(runningKnown ? { demand: () => demand } : {}),
    });
    let fromMs = 0;
    for (; fromMs < 2_000; fromMs += 4) limit.record(fromMs, 20, 5, "success");
    // Slow calls, which no trial makes faster.
    for (const untilMs = fromMs + slowMs; fromMs < untilMs; fromMs += 4) {
      limit.record(fromMs, 200, 5, "success");
    }
    const before = limit.current;
    for (let ms = 2; ms < 400; ms += 2) {
      demand = 5 + Math.round(4.5 * ms);
      limit.record(fromMs + ms, 20 + Math.min(ms, 150), 5 + ms / 2, "success");
      if (limit.current < before) {
        return { atMs: ms, limit: limit.current, phase: limit.phase, demand };
      }
    }
    return undefined;
  }

  it("sees a surge that meets a limit before the calls of it have ended, and lets in what fits", () => {
    const seen = step();
    expect(seen?.atMs).toBeLessThan(60);
    // 500 a second for 0.6 of the ceiling of 150 ms.
    expect(seen?.limit).toBeGreaterThan(40);
    expect(seen?.limit).toBeLessThan(50);
    expect(seen?.phase).toBe("shrink");
  });

  it("would not in that time without", () => {
    expect(step({ runningKnown: false })).toBeUndefined();
  });

  it("takes no surge for a queue where there is no ceiling", () => {
    expect(step({ ceilingMs: () => undefined })).toBeUndefined();
  });

  it("takes no surge for a queue while it knows that calls are just slow", () => {
    expect(step({ slowMs: 5_000 })).toBeUndefined();
  });

  it("lets a surge be that is served within the ceiling", () => {
    // At 500 a second: 200 calls within 400 ms.
    expect(step()?.demand).toBeGreaterThan(75);
    expect(step({ ceilingMs: () => 400 })?.demand).toBeGreaterThan(200);
    expect(step({ ceilingMs: () => 400 })?.demand).toBeLessThan(400);
    expect(step({ ceilingMs: () => 800 })?.demand).toBeGreaterThan(400);
  });

  it("tests within a second whether more would help than it let in behind a surge", () => {
    let demand = 5;
    const limit = elasticLimit(bounds, {
      saturated: () => false,
      ceilingMs: () => 150,
      demand: () => demand,
    });
    for (let ms = 0; ms < 2_000; ms += 4) limit.record(ms, 20, 5, "success");
    const since: Partial<Record<string, number>> = {};
    for (let ms = 2; ms < 2_000; ms += 2) {
      demand = 5 + Math.round(4.5 * ms);
      limit.record(2_000 + ms, 100, limit.current, "success");
      since[limit.phase] ??= ms;
    }
    const { shrink = Number.NaN, trial = Number.NaN } = since;
    // With the first window of half a second that closes after a second.
    expect(trial - shrink).toBeGreaterThanOrEqual(1_000);
    expect(trial - shrink).toBeLessThanOrEqual(1_500);
  });
});

describe("the ramp of an elastic limit", () => {
  /** Calls of 20 ms, and then some windows of others. */
  function rampAfter(tookMs: number, saturated = false): number {
    let busy = false;
    const signals = { saturated: () => busy, ceilingMs: () => 150, demand: () => 5 };
    const limit = elasticLimit(bounds, signals);
    for (let ms = 0; ms < 2_000; ms += 4) limit.record(ms, 20, 5, "success");
    busy = saturated;
    for (let ms = 2_000; ms < 3_200; ms += 4) limit.record(ms, tookMs, 5, "success");
    return limit.ramp;
  }

  it("is there as soon as the first window has closed", () => {
    const signals = { saturated: () => false, ceilingMs: () => 150 };
    const limit = elasticLimit(bounds, signals);
    const ramps: number[] = [];
    for (let ms = 0; ms <= 504; ms += 4) {
      limit.record(ms, 20, 5, "success");
      ramps.push(limit.ramp);
    }
    expect(new Set(ramps.slice(0, -2))).toEqual(new Set([Number.POSITIVE_INFINITY]));
    expect(ramps.slice(-2)).toEqual([32, 32]);
  });

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
    const limit = elasticLimit(bounds, signals);
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
  ["elastic", () => elasticLimit(bounds, { saturated: () => true, ceilingMs: () => 150 })],
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
  const limit = elasticLimit(bounds, {
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
