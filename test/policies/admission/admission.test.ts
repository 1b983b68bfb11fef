import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import { priorities } from "../../../src/core/priority.js";
import { Admission } from "../../../src/policies/admission/admission.js";
import {
  type AdmissionOptions,
  resolveAdmissionOptions,
} from "../../../src/policies/admission/options.js";
import type { ServerLoad, Shedder } from "../../../src/policies/admission/shedders.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { permitOf, refusalOf } from "../../core/turns.js";
import { admissionScene, callOf, noThresholds } from "./scene.js";

describe("admission under light load", () => {
  it.each(priorities)("admits %s at once, without a timer", (priority) => {
    const { clock, admission, enter } = admissionScene();
    permitOf(enter(priority).entry).settle("success");
    expect(clock.pending.refs).toBe(0);
    expect(admission.snapshot()).toMatchObject({ running: 0, queued: 0 });
    expect(admission.snapshot().admitted[priority]).toBe(1);
  });

  it.each(priorities)("admits %s at once under a learnt limit without headroom", (priority) => {
    const { enter } = admissionScene({ limit: "adaptive", criticalHeadroom: 0 });
    expect(enter(priority).fate).toBe("admitted");
  });

  it("takes a permit back exactly once", () => {
    const { admission, enter, enterMany } = admissionScene({ limit: 5 });
    enterMany(2);
    const { entry } = enter();
    permitOf(entry).settle("success");
    permitOf(entry).settle("failure");
    expect(admission.snapshot().running).toBe(2);
  });

  it.each(priorities)(
    "refuses %s when its deadline has passed, and suggests no retry",
    (priority) => {
      const { enter } = admissionScene();
      const refused = refusalOf(enter(priority, 0).entry);
      expect(refused.reason).toBe("DEADLINE_EXPIRED");
      expect(refused).not.toHaveProperty("retryAfterMs");
    },
  );
});

describe("admission with a limit that is not sure yet", () => {
  it("lets calls beyond the ramp wait and not be refused, and counts the limit as it is", () => {
    const limit = { current: 100, ramp: 2, record: () => {} };
    const { admission, enterMany } = admissionScene({ ramping: limit });
    expect(enterMany(4, "low").map(({ fate }) => fate)).toEqual([
      "admitted",
      "admitted",
      "queued",
      "queued",
    ]);
    expect(admission.snapshot()).toMatchObject({ limit: 100, maxQueued: 100 });
    // Critical calls have their headroom here too, and wait beyond it.
    expect(enterMany(2, "critical").map(({ fate }) => fate)).toEqual(["admitted", "queued"]);
  });

  it("serves those who wait as soon as somebody comes, when limit or ramp have risen without a call that ended", () => {
    const limit = { current: 3, ramp: 2, record: () => {} };
    const { enterMany } = admissionScene({ ramping: limit, thresholds: noThresholds });
    const calls = enterMany(5);
    const admitted = () => calls.filter(({ fate }) => fate === "admitted").length;
    expect(admitted()).toBe(2);
    limit.ramp = 100;
    enterMany(1);
    expect(admitted()).toBe(3);
    limit.current = 50;
    expect(enterMany(1).map(({ fate }) => fate)).toEqual(["admitted"]);
    expect(admitted()).toBe(5);
  });

  it("tells it of each call that the ramp holds back, and not of those that the limit does", () => {
    const held: number[] = [];
    const limit = {
      current: 3,
      ramp: 1,
      record: () => {},
      rampHolds: (now: number) => held.push(now),
    };
    const { enter, clock } = admissionScene({ ramping: limit, thresholds: noThresholds });
    enter();
    expect(held).toEqual([]);
    clock.advance(5);
    enter();
    expect(held).toEqual([clock.now()]);
    limit.ramp = 100;
    enter();
    enter();
    enter();
    expect(held).toEqual([clock.now()]);
  });

  it.each([undefined, Number.POSITIVE_INFINITY])("takes a ramp of %s for none", (ramp) => {
    const limit = { current: 3, record: () => {}, ...(ramp === undefined ? {} : { ramp }) };
    const options = { ramping: limit, maxQueued: 0, thresholds: noThresholds };
    const { enterMany } = admissionScene(options);
    expect(new Set(enterMany(3).map(({ fate }) => fate))).toEqual(new Set(["admitted"]));
  });

  it("asks a limit of the user's own for its limit alone", () => {
    const limit = {
      current: 3,
      ramp: 1,
      record: () => {},
      rampHolds: () => {
        throw new Error("never told");
      },
    };
    const { enterMany } = admissionScene({ limit });
    expect(enterMany(4).map(({ fate }) => fate)).toEqual([
      "admitted",
      "admitted",
      "admitted",
      "queued",
    ]);
  });
});

it.each([{ maxQueued: 0 }, { maxWaitMs: 0 }])("thresholds hold without a queue, %o", (options) => {
  const { enterMany } = admissionScene({ limit: 10, ...options });
  const low = enterMany(10, "low").map(({ fate }) => fate);
  expect(low.filter((fate) => fate === "admitted")).toHaveLength(7);
  expect(low.at(-1)).toBe("LOAD_SHED");
});

describe("admission thresholds", () => {
  it.each([
    ["low", 14],
    ["normal", 17],
    ["high", 19],
  ] as const)("refuse %s from the load at which it is shed", (priority, load) => {
    const { enter, enterMany } = admissionScene({ limit: 10, maxQueued: 10 });
    enterMany(load - 1, "critical");
    const last = enter(priority);
    expect(last.fate).toBe("queued");
    expect(enter(priority).fate).toBe("LOAD_SHED");
    expect(refusalOf(enter(priority).entry).detail).toContain("running 11 of 10");
  });

  it("refuse nobody for the sake of those below: these give way when the queue is full", () => {
    const { enter, enterMany } = admissionScene({ limit: 10, maxQueued: 10 });
    const low = enterMany(14, "low");
    enterMany(6, "normal");
    expect(enter("low").fate).toBe("LOAD_SHED");
    expect(enterMany(4, "high").map(({ fate }) => fate)).toEqual(Array(4).fill("queued"));
    expect(low.map(({ fate }) => fate)).toEqual([
      ...Array(10).fill("admitted"),
      ...Array(4).fill("LOAD_SHED"),
    ]);
    // Nobody is left who is worse than they are: now they are refused from their load on.
    expect(enter("normal").fate).toBe("LOAD_SHED");
  });

  it("do not touch critical calls", () => {
    const { enterMany } = admissionScene({ limit: 10, maxQueued: 10 });
    const fates = enterMany(21, "critical").map(({ fate }) => fate);
    expect(fates.filter((fate) => fate === "admitted")).toHaveLength(11);
    expect(fates.filter((fate) => fate === "queued")).toHaveLength(10);
  });

  it("count running calls alone where there is no queue", () => {
    const { enterMany } = admissionScene({ limit: 10, maxQueued: 0 });
    const fates = enterMany(8, "low").map(({ fate }) => fate);
    expect(fates.lastIndexOf("admitted")).toBe(6);
    expect(fates[7]).toBe("LOAD_SHED");
  });

  it("are reached exactly, whatever binary fractions make of them", () => {
    // 0.55 × 100 is a hair above 55.
    const { enterMany } = admissionScene({ limit: 100, maxQueued: 0, thresholds: { low: 0.55 } });
    const fates = enterMany(56, "low").map(({ fate }) => fate);
    expect(fates.indexOf("LOAD_SHED")).toBe(55);
  });

  it("of 1 leave the call to the queue", () => {
    const { enterMany } = admissionScene({ limit: 1, maxQueued: 2, thresholds: noThresholds });
    expect(enterMany(4, "low").map(({ fate }) => fate)).toEqual([
      "admitted",
      "queued",
      "queued",
      "CONCURRENCY_LIMIT",
    ]);
  });
});

describe("the work of a pool", () => {
  it("is the time for which slots were in use, and the calls that were refused for load", () => {
    const options = { limit: 2, maxQueued: 0, thresholds: noThresholds };
    const { clock, admission, enter } = admissionScene(options);
    const work = () => admission.workAt(clock.now());
    expect(work()).toEqual({ limit: 2, taken: 0, takenMs: 0, shed: 0 });
    const first = enter();
    clock.advance(10);
    enter();
    clock.advance(5);
    expect(work()).toEqual({ limit: 2, taken: 2, takenMs: 20, shed: 0 });
    expect([enter().fate, enter("normal", 0).fate]).toEqual([
      "CONCURRENCY_LIMIT",
      "DEADLINE_EXPIRED",
    ]);
    permitOf(first.entry).settle("success");
    clock.advance(7);
    expect(work()).toEqual({ limit: 2, taken: 1, takenMs: 27, shed: 1 });
    expect(work()).toEqual({ limit: 2, taken: 1, takenMs: 27, shed: 1 });
  });
});

it("a look at a call whose request has not come refuses nothing while a slot is free and none waits", () => {
  const { admission, enter, enterMany } = admissionScene({ limit: 10, maxQueued: 0 });
  enterMany(7);
  expect(admission.check(callOf("low"))).toBeUndefined();
  expect(enter("low").fate).toBe("LOAD_SHED");
  enterMany(3, "critical");
  expect(admission.check(callOf("low"))?.reason).toBe("LOAD_SHED");
});

it("a look at a critical call lets it pass while it has headroom", () => {
  const { admission, enterMany } = admissionScene({ limit: 1, maxQueued: 0 });
  enterMany(1, "critical");
  expect(admission.check(callOf("critical"))).toBeUndefined();
  enterMany(1, "critical");
  expect(admission.check(callOf("critical"))?.reason).toBe("CONCURRENCY_LIMIT");
});

it("shedders are told how loaded the server is, when, who waits, and who is owed a slot", () => {
  const clock = new VirtualClock();
  const seen: ServerLoad[] = [];
  const shedder: Shedder = {
    judge: (_call, server) => {
      seen.push({ ...server });
      return undefined;
    },
  };
  const options = resolveAdmissionOptions({ limit: 4, maxQueued: 4, queue: { minShare: 0.25 } });
  const admission = new Admission(options, clock, () => 0, { shedders: [shedder] });
  const startedMs = clock.now();
  for (const priority of ["normal", "normal", "normal", "normal", "low", "high"] as const) {
    admission.enter(callOf(priority), () => {});
    clock.advance(1);
  }
  expect([seen[0], ...seen.slice(3)]).toMatchObject([
    { load: 0, nowMs: startedMs, worstWaiting: undefined, owed: false },
    { load: 3 / 8, nowMs: startedMs + 3, worstWaiting: undefined, owed: false },
    // Each slot of the four owed low calls a quarter.
    { load: 4 / 8, nowMs: startedMs + 4, worstWaiting: undefined, owed: true },
    { load: 5 / 8, nowMs: startedMs + 5, worstWaiting: "low", owed: false },
  ]);
});

describe("admission is late", () => {
  it("while a queue stands, though calls are in time", () => {
    const { clock, admission, enterMany } = admissionScene({ limit: 1 });
    enterMany(2);
    clock.advance(100);
    expect(admission.isLate(clock.now())).toBe(false);
    clock.advance(1);
    expect(admission.isLate(clock.now())).toBe(true);
  });

  it("not while calls wait for the event loop alone, for as long as they have time", () => {
    const { clock, admission, enter, enterMany } = admissionScene({ limit: "adaptive" });
    const lateIn = (ms: number) => admission.isLate(clock.now() + ms);
    const busyTurn = () => {
      // A handler holds the event loop for as long as all calls of a turn may.
      admission.ran(20);
      expect(enter().fate).toBe("queued");
    };
    busyTurn();
    expect([lateIn(500), lateIn(501)]).toEqual([false, true]);
    // In the next turn they run.
    clock.advance(1);
    for (const withinMs of Array.from({ length: 30 }, () => 2_000)) enter("normal", withinMs);
    clock.advance(1_000);
    busyTurn();
    expect([lateIn(1_000), lateIn(1_001)]).toEqual([false, true]);
    admission.resize(1);
    enterMany(1);
    expect(lateIn(101)).toBe(true);
  });

  it("while calls run out of a time that is usually enough, though none waits", () => {
    const { clock, admission, enter } = admissionScene();
    const run = (tookMs: number, withinMs: number) => {
      const { entry } = enter("normal", withinMs);
      clock.advance(tookMs);
      permitOf(entry).settle(tookMs < withinMs ? "success" : "failure");
    };
    for (let call = 0; call < 40; call += 1) run(20, 200);
    expect(admission.isLate(clock.now())).toBe(false);
    for (let call = 0; call < 3; call += 1) run(200, 200);
    expect(admission.isLate(clock.now())).toBe(true);
  });
});

describe("draining", () => {
  it("refuses all who wait and all who come, lets calls end, and suggests no retry", () => {
    const { clock, admission, enter, enterMany } = admissionScene({
      limit: 1,
      maxQueued: 3,
      thresholds: noThresholds,
    });
    const running = enter();
    const waiting = enterMany(3);
    admission.drain();
    const late = enter("low");
    expect([...waiting, late].map(({ fate }) => fate)).toEqual(Array(4).fill("DRAINING"));
    expect(refusalOf(late.entry)).not.toHaveProperty("retryAfterMs");
    expect(admission.check(callOf("critical"))?.reason).toBe("DRAINING");
    expect(admission.snapshot()).toMatchObject({ draining: true, running: 1, queued: 0 });
    expect(clock.pending.refs).toBe(0);
    permitOf(running.entry).settle("success");
    expect(admission.snapshot()).toMatchObject({ running: 0, refused: { normal: 3, low: 1 } });
  });
});

describe("a changed limit", () => {
  it("serves the queue when it grows, and carries headroom and thresholds along", () => {
    const { admission, enter, enterMany } = admissionScene({
      limit: 1,
      maxQueued: 10,
      thresholds: noThresholds,
    });
    enterMany(1);
    const waiting = enterMany(4);
    admission.resize(3);
    expect(waiting.map(({ fate }) => fate)).toEqual(["admitted", "admitted", "queued", "queued"]);
    expect(admission.snapshot().limit).toBe(3);
    admission.resize(20);
    enterMany(16);
    expect(enterMany(3, "critical").map(({ fate }) => fate)).toEqual([
      "admitted",
      "admitted",
      "queued",
    ]);
    expect(enter().fate).toBe("queued");
  });

  it("has to be a whole number of at least 1", () => {
    const { admission } = admissionScene();
    expect(() => admission.resize(0)).toThrow(InvalidOptionError);
    expect(admission.snapshot().limit).toBe(100);
  });
});

describe("the advice when to retry", () => {
  /** One call of `holdMs`, then a full house: what the next is told. */
  const adviceAfter = (
    options: AdmissionOptions & { readonly limit?: number },
    holdMs: number,
    random?: () => number,
  ) => {
    const { clock, enter, enterMany } = admissionScene(
      { thresholds: noThresholds, ...options },
      random,
    );
    const { entry } = enter();
    clock.advance(holdMs);
    permitOf(entry).settle("success");
    enterMany((options.limit ?? 100) + (options.maxQueued ?? 0));
    return refusalOf(enter().entry).retryAfterMs;
  };

  it("is the time in which the queue is served", () => {
    expect(adviceAfter({ limit: 10, maxQueued: 9 }, 300)).toBe(300);
    expect(adviceAfter({ limit: 10, maxQueued: 19 }, 300)).toBe(600);
    expect(adviceAfter({ limit: 5, maxQueued: 19 }, 300)).toBe(1_200);
  });

  it("is spread from once to twice that time", () => {
    expect(adviceAfter({ limit: 10, maxQueued: 9 }, 300, () => 0.5)).toBe(450);
  });

  it("stays from 20 to 5,000 ms, and is spread at the bounds too", () => {
    const almostOne = () => 1 - 2 ** -32;
    expect(adviceAfter({ limit: 10, maxQueued: 9 }, 1)).toBe(20);
    expect(adviceAfter({ limit: 10, maxQueued: 9 }, 1, almostOne)).toBe(40);
    expect(adviceAfter({ limit: 1, maxQueued: 9 }, 60_000)).toBe(2_500);
    expect(adviceAfter({ limit: 1, maxQueued: 9 }, 60_000, almostOne)).toBe(5_000);
  });

  it("takes maxWaitMs for the time that calls hold permits, until one has ended", () => {
    const { enterMany, enter } = admissionScene({
      limit: 2,
      maxQueued: 3,
      maxWaitMs: 200,
      thresholds: noThresholds,
    });
    enterMany(5);
    expect(refusalOf(enter().entry).retryAfterMs).toBe(400);
  });

  it("follows a change in how long calls take, smoothly", () => {
    const { clock, enter } = admissionScene({ limit: 1, maxQueued: 0, thresholds: noThresholds });
    const hold = (ms: number) => {
      const { entry } = enter();
      clock.advance(ms);
      permitOf(entry).settle("success");
    };
    const advice = () => {
      const { entry } = enter();
      const { retryAfterMs } = refusalOf(enter().entry);
      clock.advance(retryAfterMs ?? 0);
      permitOf(entry).settle("success");
      return retryAfterMs;
    };
    hold(100);
    hold(200);
    expect(advice()).toBe(110);
    for (let i = 0; i < 100; i += 1) hold(200);
    expect(advice()).toBe(200);
  });
});

describe("a limit that learns", () => {
  it("is told nothing of errors that came at a glance, and everything of other calls", () => {
    const told: number[] = [];
    const limit = { current: 10, record: (_now: number, tookMs: number) => told.push(tookMs) };
    const { clock, enter } = admissionScene({ limit });
    const run = (tookMs: number, outcome: "success" | "failure", erred: boolean) => {
      const { entry } = enter();
      clock.advance(tookMs);
      if ("settle" in entry) entry.settle(outcome, erred ? { erred } : undefined);
    };
    run(20, "success", false);
    run(1, "success", true);
    run(19, "success", true);
    run(1, "success", false);
    expect(told).toEqual([20, 19, 1]);
  });
});
