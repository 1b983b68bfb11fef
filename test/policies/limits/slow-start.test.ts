import { describe, expect, it } from "vitest";
import { SlowStart } from "../../../src/policies/limits/slow-start.js";

const calm = { inFlight: 10, tookMs: 20, perSecond: 250 };

function rested(): SlowStart {
  const surge = new SlowStart(8);
  surge.rest(calm);
  return surge;
}

/** Calls come and end at their paces (per second), from a calm of five. What the surge says first, and when. */
function play(come: number, end: number, forMs: number) {
  const surge = rested();
  for (let ended = 1; (ended * 1000) / end <= forMs; ended += 1) {
    const nowMs = (ended * 1000) / end;
    const demand = Math.round(5 + ((come - end) * nowMs) / 1000);
    const said = surge.record(nowMs, calm.tookMs, demand);
    if (said !== undefined) return { nowMs, said };
  }
  return undefined;
}

describe("a surge", () => {
  it("that meets a limit is seen after twice the time of a call, with the pace of the limit", () => {
    const seen = play(5_000, 500, 1_000);
    expect(seen?.nowMs).toBeLessThan(60);
    expect(seen?.said).toBeCloseTo(500, -1);
  });

  it("with which the server keeps up is none", () => {
    expect(play(1_000, 1_000, 1_000)).toBeUndefined();
    expect(play(1_300, 1_000, 1_000)).toBeUndefined();
  });

  it("is none where calls only end more slowly than before", () => {
    expect(play(250, 100, 2_000)).toBeUndefined();
    expect(play(250, 200, 2_000)).toBeUndefined();
  });

  it("is none where calls end faster and faster, as a queue is served at one pace", () => {
    const said = (endAtMs: readonly number[]) => {
      const surge = rested();
      surge.record(0, 20, 100);
      return endAtMs.map((ms) => surge.record(ms, 20, 100 + 10 * ms)).at(-1);
    };
    const every = (ms: number, fromMs: number, toMs: number) =>
      Array.from({ length: (toMs - fromMs) / ms }, (_, index) => fromMs + ms * (index + 1));
    expect(said(every(1, 0, 40))).toBe(1_000);
    expect(said([...every(4, 0, 20), ...every(0.5, 20, 40)])).toBeUndefined();
  });

  it("is judged by the end of the twentieth call, and not before twice the usual time of one", () => {
    const seenAt = (everyMs: number) => {
      const surge = rested();
      for (let call = 0; call < 100; call += 1) {
        // Five come for each that ends.
        if (surge.record(call * everyMs, 20, 100 + call * 5) !== undefined) return call;
      }
      return undefined;
    };
    // The first one begins it.
    expect(seenAt(4)).toBe(20);
    expect(seenAt(1)).toBe(40);
  });

  it("is forgotten when it is over", () => {
    const surge = rested();
    for (let call = 0; call < 19; call += 1) surge.record(call * 2, 20, 100 + call * 9);
    surge.record(40, 20, 10);
    expect(surge.record(60, 20, 300)).toBeUndefined();
  });

  it("is nothing to a limit that has not seen any calm", () => {
    const surge = new SlowStart(Number.POSITIVE_INFINITY);
    for (let call = 0; call < 100; call += 1) {
      expect(surge.record(call * 2, 20, call * 10)).toBeUndefined();
    }
    expect(surge.ramp).toBe(Number.POSITIVE_INFINITY);
  });
});

describe("the ramp of a surge", () => {
  /** A server that has `atOnce` workers, and twenty times the calls of the calm from now on. */
  function rampAfter(ms: number, atOnce: number, tookMs = 20): number {
    const surge = rested();
    for (let nowMs = 1; nowMs <= ms; nowMs += 1) {
      // Whoever runs beside those that are worked on has waited for them.
      const running = Math.min(surge.ramp, 10 * nowMs);
      const waitedMs = (tookMs * Math.max(0, running - atOnce)) / atOnce;
      const ends = nowMs < tookMs ? 0 : Math.min(running, atOnce) / tookMs;
      for (let call = 0; call < ends; call += 1) {
        surge.record(nowMs, tookMs + Math.min(waitedMs, nowMs - tookMs), 10 * nowMs);
      }
    }
    return surge.ramp;
  }

  it("begins at twice the calm, and never below what fills no queue that matters", () => {
    const surge = new SlowStart(8);
    surge.rest({ ...calm, inFlight: 40 });
    expect(surge.ramp).toBe(80);
    surge.rest(calm);
    expect(surge.ramp).toBe(32);
  });

  it("is not there before a calm was seen, nor after something else was found to be wrong", () => {
    const surge = new SlowStart(8);
    expect(surge.ramp).toBe(Number.POSITIVE_INFINITY);
    surge.rest(calm);
    surge.forget();
    expect(surge.ramp).toBe(Number.POSITIVE_INFINITY);
  });

  it("is not there for calls that take so long that those who wait for it would be refused", () => {
    const surge = new SlowStart(8);
    surge.rest({ ...calm, tookMs: 51 });
    expect(surge.ramp).toBe(Number.POSITIVE_INFINITY);
  });

  it("soon holds back nothing that can do more", () => {
    expect(rampAfter(39, 1_000)).toBeGreaterThan(100);
    expect(rampAfter(80, 1_000)).toBeGreaterThan(300);
  });

  it("keeps calls out of a queue that nobody sees, until that is known", () => {
    expect(rampAfter(39, 10)).toBeLessThan(80);
  });

  it("doubles where calls are only slower than before", () => {
    const surge = rested();
    for (let call = 1; call <= 45; call += 1) surge.record(call * 10, 100, 100);
    expect(surge.ramp).toBe(128);
  });

  it("doubles each quarter of a second in which calls wait for it and none ends as usual", () => {
    const surge = rested();
    for (let nowMs = 0; nowMs <= 1_000; nowMs += 10) {
      surge.holds(nowMs);
      // Another kind of calls ends now and then.
      if (nowMs % 100 === 0) surge.record(nowMs, 5_000, 60);
    }
    expect(surge.ramp).toBe(32 * 2 ** 4);
  });

  it("waits on as long as calls end as usual", () => {
    const surge = rested();
    for (let nowMs = 0; nowMs <= 1_000; nowMs += 10) {
      surge.holds(nowMs);
      if (nowMs % 200 === 0) surge.record(nowMs, 20, 5);
    }
    expect(surge.ramp).toBe(32);
  });

  it("stays where it is while it is not in use", () => {
    const surge = rested();
    for (let call = 0; call < 100; call += 1) surge.record(call * 4, 20, 5);
    expect(surge.ramp).toBe(32);
  });
});
