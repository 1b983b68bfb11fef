import { describe, expect, it } from "vitest";
import { ElasticLimit, type ElasticSignals } from "../../../src/policies/limits/elastic.js";
import { fixedLimit, type Limit } from "../../../src/policies/limits/limit.js";
import { constant, exponential, logNormal, type Stretch, simulate } from "./limit-simulation.js";

// The numbers behind docs/adaptive-limits.md. The server has 50 workers of 20 ms: 2,500 calls a second.
const bounds = { min: 8, max: 500, windowMs: 500 };
/** Of calls that run or wait nothing is known unless it is said: there are none. */
const elasticLimit = (
  options: typeof bounds,
  signals: Omit<ElasticSignals, "demand"> & Partial<ElasticSignals>,
) => new ElasticLimit(options, { demand: () => 0, ...signals });
const elastic = () => elasticLimit(bounds, { ceilingMs: () => 150 });

const calm: Stretch = { seconds: 30, perSecond: 1_750 };
const overload: Stretch = { seconds: 30, perSecond: 3_750 };
const spike: Stretch = { seconds: 10, perSecond: 10_000 };
const unbounded = { workers: 5_000 };
const slowDependency: Stretch = { seconds: 60, perSecond: 1_750, serviceMs: 100, ...unbounded };

function run(make: () => Limit, ...stretches: Stretch[]) {
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

describe("the elastic limit", () => {
  it("refuses next to nothing in calm", () => {
    const [start, , , after] = run(elastic, calm, calm, overload, calm);
    expect(start?.rejected).toBeLessThan(0.001);
    expect(after?.rejected).toBeLessThan(0.01);
  });

  it("keeps goodput at what the server can do in overload and in a spike", () => {
    const [, over, , peak] = run(elastic, calm, overload, calm, spike);
    expect(over?.good).toBeGreaterThan(0.95 * (2_500 / 3_750));
    expect(peak?.good).toBeGreaterThan(0.95 * (2_500 / 10_000));
  });

  it("a limit that is not there serves nobody in time", () => {
    const [, over] = run(() => fixedLimit(1_000_000), calm, overload);
    expect(over?.good).toBeLessThan(0.05);
  });

  it.each([
    ["exponential", exponential],
    ["log-normal", logNormal],
    ["constant", constant],
  ])("does not take a slow dependency for overload, with %s times", (_name, draw) => {
    const [, slow] = run(elastic, { ...calm, ...unbounded, draw }, { ...slowDependency, draw });
    expect(slow?.rejected).toBeLessThan(0.05);
  });

  it("finds a pool that is full behind it, though this process is idle", () => {
    const [, over] = run(elastic, calm, overload);
    expect(over?.limit).toBeLessThan(400);
    expect(over?.p90Ms).toBeLessThan(200);
  });

  it("opens again when the load has gone", () => {
    const [, , after] = run(elastic, calm, overload, { ...calm, seconds: 60 });
    expect(after?.limit).toBe(500);
  });

  it("asks less often while the answer stays the same", () => {
    let down = 0;
    let last = 500;
    const counting = () => {
      const limit = elastic();
      return {
        get current() {
          return limit.current;
        },
        record(...sample: Parameters<Limit["record"]>) {
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

  it("without a ceiling holds nothing down", () => {
    const open = () => elasticLimit(bounds, { ceilingMs: () => undefined });
    const [, over] = run(open, calm, overload);
    expect(over?.limit).toBe(500);
  });
});

describe("the elastic limit without evidence", () => {
  it("holds nothing down when its trial took nothing away, because fewer run than its minimum", () => {
    const limit = elasticLimit({ min: 8, max: 500, windowMs: 500 }, { ceilingMs: () => 150 });
    const feed = fed(limit);
    feed(4, 200, 6);
    // It tries, and may not.
    expect(limit.current).toBeLessThan(500);
    for (let tries = 0; tries < 40; tries += 1) feed(1, 200, Math.min(6, limit.current));
    expect(limit.current).toBe(500);
  });

  it("takes nothing away from calls that are slow while they are no more than before, until most are late", () => {
    let late = false;
    const limit = elasticLimit(bounds, {
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
      ceilingMs: () => 150,
      heldUp: () => 0.5,
      demand: () => (demand += 1),
      late: () => false,
    });
    fed(limit)(10, 200, 60);
    expect(limit.current).toBeLessThan(100);
  });

  it("counts no window in which fewer calls became more than its minimum lets run", () => {
    let demand = 2;
    const limit = elasticLimit(
      { ...bounds, min: 8 },
      { ceilingMs: () => undefined, heldUp: () => 0.5, demand: () => demand, late: () => false },
    );
    const feed = fed(limit);
    feed(4, 200, 60);
    for (const [more, phase] of [
      [8, "open"],
      [30, "open"],
      [60, "trial"],
    ] as const) {
      demand = more;
      feed(1, 200, 60);
      expect(limit.phase).toBe(phase);
    }
  });

  it("tries with less once slow calls have become ever more for two windows, and not after one", () => {
    let demand = 20;
    // Without a ceiling no surge is seen before its calls have ended.
    const limit = elasticLimit(bounds, {
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
    // From the first window in which calls ended that had begun under it.
    expect(phases.indexOf("trial", down) - down).toBe(21);
    // They are still held up, and so it takes a tenth with each window, down to its floor.
    const [first = 0, second = 0] = limits.slice(down);
    expect(Math.abs(second - 0.9 * first)).toBeLessThan(1);
    expect(Math.min(...limits)).toBe(8);
    // A trial takes away twice 15 %, and the one with more adds 40 % for three windows. Here more did not help.
    expect(limits.slice(2, 5)).toEqual([51, 43, 43]);
    expect(limits.slice(down + 21, down + 25)).toEqual([11, 11, 11, 8]);
    expect(phases[down + 24]).toBe("shrink");
  });

  it("goes down to what is served within half of the ceiling, once a trial has found that calls wait for each other", () => {
    const limit = elasticLimit(bounds, { ceilingMs: () => 150 });
    const feed = fed(limit);
    const limits: number[] = [];
    for (let window = 0; window < 6; window += 1) {
      feed(1, 200, Math.min(60, limit.current), 150);
      limits.push(limit.current);
    }
    // Of nearly 300 calls a second, in 75 ms.
    expect(limits).toEqual([500, 500, 51, 43, 43, 22]);
  });

  it("opens again by a quarter with each window, once fewer than half of what it allows run", () => {
    const limit = elasticLimit(bounds, {
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
      ceilingMs: () => 210,
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

  it("lets in more while it holds calls down only as long as they take less than 0.9 of the ceiling", () => {
    const limit = elasticLimit(bounds, { ceilingMs: () => 150 });
    const feed = fed(limit);
    const window = (tookMs: number) => feed(1, tookMs, Math.min(60, limit.current), 300);
    for (let windows = 0; windows < 10 && limit.phase !== "shrink"; windows += 1) window(200);
    expect(limit.phase).toBe("shrink");
    // The first call of a window has ended before the last one closed, at the old limit.
    window(140);
    const down = limit.current;
    for (let windows = 0; windows < 4; windows += 1) window(140);
    expect(limit.current).toBe(down);
    for (let windows = 0; windows < 4; windows += 1) window(60);
    // By half of its root with each window, of which the last one may still be open.
    expect(limit.current - down).toBeGreaterThan(1.4 * Math.sqrt(down));
    expect(limit.current - down).toBeLessThan(2.5 * Math.sqrt(down));
  });

  it("goes by what is held up, and not by callers of whom the ceiling speaks, where both are known", () => {
    const limit = elasticLimit(bounds, {
      ceilingMs: () => 6,
      heldUp: () => 0.1,
    });
    fed(limit)(40, 20, 60);
    expect(limit.current).toBe(500);
  });
});

it("elastic looks at no fewer calls than tell something, however slowly they come", () => {
  const limit = elastic();
  let calls = 0;
  for (; limit.current === 500; calls += 1) limit.record(600 * calls, 200, 20, "failure");
  // The first window is left out.
  expect(calls).toBe(2 * 20);
});

it("elastic waits 15 seconds after a trial without success, then twice as long each time, up to two minutes", () => {
  const limit = elasticLimit(bounds, { ceilingMs: () => 150 });
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
  const limit = elasticLimit(bounds, { ceilingMs: () => 150 });
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

describe("the elastic limit that knows what runs", () => {
  /** A pool of 500 calls a second of which half is used, and then ten times as much comes as it can do. */
  function step({
    runningKnown = true,
    ceilingMs = (): number | undefined => 150,
    slowMs = 0,
  } = {}) {
    let demand = 5;
    const signals = { ceilingMs };
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
    // 500 a second for half of the ceiling of 150 ms.
    expect(seen?.limit).toBeGreaterThan(32);
    expect(seen?.limit).toBeLessThan(42);
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
  function rampAfter(tookMs: number): number {
    const signals = { ceilingMs: () => 150, demand: () => 5 };
    const limit = elasticLimit(bounds, signals);
    for (let ms = 0; ms < 2_000; ms += 4) limit.record(ms, 20, 5, "success");
    for (let ms = 2_000; ms < 3_200; ms += 4) limit.record(ms, tookMs, 5, "success");
    return limit.ramp;
  }

  it("is there as soon as the first window has closed", () => {
    const signals = { ceilingMs: () => 150 };
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
  });
});

describe("an elastic limit that starts", () => {
  it("into an overload sees it without having seen any calm", () => {
    let demand = 0;
    const signals = { ceilingMs: () => 150, demand: () => demand };
    const limit = elasticLimit(bounds, signals);
    for (let ms = 20; limit.current === 500 && ms < 400; ms += 2) {
      demand = Math.round(4.5 * ms);
      limit.record(ms, Math.min(ms, 300), ms / 2, "success");
    }
    expect(limit.current).toBeGreaterThan(32);
    expect(limit.current).toBeLessThan(42);
    expect(demand).toBeLessThan(400);
  });
});

it("elastic takes calls that need no time for what they are, on a clock of whole milliseconds", () => {
  const limit = elastic();
  for (let ms = 0; ms < 5_000; ms += 1) limit.record(ms, 0, 500, "success");
  expect(limit.current).toBe(500);
  for (let ms = 5_000; ms < 9_000; ms += 1) limit.record(ms, 20, 500, "success");
  expect(limit.current).toBe(500);
});

it("the ramp of elastic gives way where it holds calls back behind others that do not end", () => {
  const limit = elasticLimit(bounds, {
    ceilingMs: () => 150,
    demand: () => 100,
  });
  for (let ms = 0; ms < 2_000; ms += 10) limit.record(ms, 20, 2, "success");
  const before = limit.ramp;
  expect(before).toBeLessThan(Infinity);
  for (let ms = 2_000; ms < 2_600; ms += 10) limit.rampHolds(ms);
  expect(limit.ramp).toBe(4 * before);
});
