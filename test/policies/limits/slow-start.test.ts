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
    const seenAt = (everyMs: number, tookMs = 20) => {
      const surge = new SlowStart(8);
      surge.rest({ ...calm, tookMs });
      for (let call = 0; call < 100; call += 1) {
        // Five come for each that ends.
        if (surge.record(call * everyMs, tookMs, 100 + call * 5) !== undefined) return call;
      }
      return undefined;
    };
    // The first one begins it.
    expect(seenAt(4)).toBe(20);
    expect(seenAt(1)).toBe(40);
    // Of quick calls, not before 20 ms.
    expect(seenAt(0.5, 2)).toBe(40);
  });

  /** Calls end at these times after one at 0 that began the surge. What it says of the last one, and the ramp then. */
  function judged(endAtMs: readonly number[], { from = 100, to = 300, perSecond = 250 } = {}) {
    const surge = new SlowStart(8);
    surge.rest({ ...calm, perSecond });
    surge.record(0, 100, from);
    const said = endAtMs.map((ms, index) =>
      surge.record(ms, 100, index === endAtMs.length - 1 ? to : from),
    );
    return { said: said.at(-1), ramp: surge.ramp };
  }
  const many = (count: number, fromMs: number, toMs: number) =>
    Array.from({ length: count }, (_, index) => fromMs + ((toMs - fromMs) * (index + 1)) / count);

  it("is there from beyond twice the calls of the calm", () => {
    const calls = many(20, 0, 40);
    expect(judged(calls, { from: 21 }).said).toBe(500);
    expect(judged(calls, { from: 20 }).said).toBeUndefined();
    // The call that goes beyond begins it, and it is judged no sooner.
    expect(judged([...calls, 60, 80], { from: 20 }).said).toBeUndefined();
  });

  it("is a queue where half as many calls again come as end, and no ramp is needed any more", () => {
    const calls = many(60, 0, 40);
    expect(judged(calls, { to: 130 })).toEqual({ said: 1_500, ramp: Number.POSITIVE_INFINITY });
    expect(judged(calls, { to: 129 })).toEqual({ said: undefined, ramp: 64 });
  });

  it("is judged by more calls where so few may come by chance, and by those before as well", () => {
    const few = many(20, 0, 40);
    expect(judged(few, { to: 110 })).toEqual({ said: undefined, ramp: 32 });
    const surge = rested();
    surge.record(0, 100, 100);
    for (const ms of few) surge.record(ms, 100, 110);
    expect(surge.record(41, 100, 116)).toBeCloseTo(21_000 / 41, 5);
  });

  it("is no queue where calls end more than a fifth faster than in the first half of the time", () => {
    expect(judged([...many(10, 0, 20), ...many(14, 20, 40)]).said).toBe(600);
    // Such calls raise the ramp by themselves.
    expect(judged([...many(10, 0, 20), ...many(15, 20, 40)])).toEqual({
      said: undefined,
      ramp: 32,
    });
  });

  it("is no queue where no call ends in the first half of the time, whatever was before", () => {
    const late = many(20, 380, 400);
    expect(judged(late, { perSecond: 50 }).said).toBeUndefined();
    // The first judgement begins anew: as many come as end, so that there is none yet.
    const before = many(20, 0, 40);
    const surge = new SlowStart(8);
    surge.rest({ ...calm, perSecond: 50 });
    surge.record(0, 100, 100);
    for (const ms of [...before, ...late.slice(0, -1)]) surge.record(ms, 100, 100);
    expect(surge.record(401, 100, 900)).toBeUndefined();
  });

  it("is a queue, too, where most calls end because they have run out of time", () => {
    const surge = rested();
    surge.record(0, 100, 100);
    // Two in a hundred milliseconds are served, and eight give up.
    const said = many(100, 0, 1_000).map((ms, call) => surge.record(ms, 100, 100, call % 5 === 0));
    expect(said.at(-1)).toBeUndefined();
    const busy = new SlowStart(8);
    busy.rest({ ...calm, perSecond: 20 });
    busy.record(0, 100, 100);
    const then = many(100, 0, 1_000).map((ms, call) => busy.record(ms, 100, 100, call % 5 === 0));
    expect(then.at(-1)).toBeCloseTo(20, -1);
  });

  it("goes on to say at which rate calls are served, until it is judged again", () => {
    const surge = rested();
    surge.record(0, 100, 100);
    const said = many(20, 0, 40).map((ms, call) => surge.record(ms, 100, 100 + 10 * call));
    expect(said.slice(-2)).toEqual([undefined, 500]);
    expect(surge.record(42, 100, 300)).toBe(500);
    expect(
      many(20, 42, 82)
        .map((ms) => surge.record(ms, 100, 290))
        .at(-1),
    ).toBeUndefined();
  });

  it("is no calm while its calls take longer than usual", () => {
    const rampWith = (slowedShare: number) => {
      const surge = rested();
      surge.record(0, 100, 100);
      surge.rest({ inFlight: 100, tookMs: 40, perSecond: 500 }, slowedShare);
      return surge.ramp;
    };
    expect([rampWith(0.25), rampWith(0.26)]).toEqual([200, 32]);
    // Without a surge, slower calls are how things are now.
    const slower = rested();
    slower.rest({ inFlight: 20, tookMs: 40, perSecond: 250 }, 1);
    expect(slower.ramp).toBe(40);
  });

  it("is forgotten when it is over", () => {
    const surge = rested();
    for (let call = 0; call < 20; call += 1) surge.record(call * 2, 20, 100 + call * 9);
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
    surge.rest({ ...calm, tookMs: 50 });
    expect(surge.ramp).toBe(32);
  });

  it.each([
    ["in half as long again as usual, while half of the ramp is in use", 30, 16, 34],
    ["later", 30.1, 16, 32],
    ["while less of it is in use", 20, 15, 32],
  ])("grows by two for a call that ends %s", (_how, tookMs, demand, expected) => {
    const surge = rested();
    surge.record(0, tookMs, demand);
    expect(surge.ramp).toBe(expected);
  });

  it("is not held back for longer by what was before a calm", () => {
    const surge = rested();
    surge.holds(0);
    surge.rest(calm);
    surge.holds(300);
    expect(surge.ramp).toBe(32);
    surge.holds(550);
    expect(surge.ramp).toBe(64);
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
