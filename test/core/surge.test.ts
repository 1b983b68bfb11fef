import { describe, expect, it } from "vitest";
import { Surge } from "../../src/core/surge.js";

const calm = { inFlight: 10, tookMs: 20, perSecond: 250 };

/** Calls come and end at their paces (per second), from a calm of five. What the surge says first, and when. */
function play(come: number, end: number, forMs: number) {
  const surge = new Surge();
  for (let ended = 1; (ended * 1000) / end <= forMs; ended += 1) {
    const nowMs = (ended * 1000) / end;
    const running = Math.round(5 + ((come - end) * nowMs) / 1000);
    const said = surge.record(nowMs, running, calm);
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

  it("is forgotten when it is over", () => {
    const surge = new Surge();
    for (let call = 0; call < 19; call += 1) surge.record(call * 2, 100 + call * 9, calm);
    surge.record(40, 10, calm);
    expect(surge.record(60, 300, calm)).toBeUndefined();
  });

  it("is nothing to a limit that has not seen any calm", () => {
    const surge = new Surge();
    const none = { inFlight: Number.POSITIVE_INFINITY, tookMs: 0, perSecond: 0 };
    for (let call = 0; call < 100; call += 1) {
      expect(surge.record(call * 2, call * 10, none)).toBeUndefined();
    }
  });
});
