import { describe, expect, it } from "vitest";
import {
  type BreakerOptions,
  resolveBreakerOptions,
} from "../../../src/policies/breaker/options.js";
import { opened, setup } from "./setup.js";

/** The open periods of a breaker whose probes fail again and again. */
function openPeriods(options: BreakerOptions, count: number, chance = 0.5): number[] {
  const { breaker, clock, chance: luck, fail } = setup({ consecutiveFailures: 1, ...options });
  luck.is = chance;
  const found: number[] = [];
  for (let period = 0; period < count; period += 1) {
    fail();
    const openForMs = breaker.check()?.retryAfterMs ?? Number.NaN;
    found.push(openForMs);
    clock.advance(openForMs);
  }
  return found;
}

describe("the open periods of a breaker", () => {
  it("grow by a fifth from 0.25 s up to 0.75 s unless told otherwise", () => {
    const { openMs, openFactor, maxOpenMs } = resolveBreakerOptions();
    const found = openPeriods({ openMs, openFactor, maxOpenMs }, 9);
    expect(found.slice(0, 4)).toEqual([250, 300, 360, 432]);
    expect(found.slice(-2)).toEqual([750, 750]);
  });

  it("are never longer than a quarter of a second and a fifth of what went before", () => {
    const { openMs, openFactor, maxOpenMs } = resolveBreakerOptions();
    let awayMs = 0;
    for (const openForMs of openPeriods({ openMs, openFactor, maxOpenMs }, 50)) {
      expect(openForMs).toBeLessThan(250 + 0.2 * awayMs + 1e-6);
      awayMs += openForMs;
    }
  });

  it("may stay as they are", () => {
    expect(openPeriods({ openFactor: 1, openMs: 300 }, 3)).toEqual([300, 300, 300]);
  });

  it("do not stop growing at a number that is too large", () => {
    const found = openPeriods({ openFactor: 10, openMs: 1, maxOpenMs: 1_000 }, 400);
    expect(new Set(found.slice(3))).toEqual(new Set([1_000]));
  });

  it("are a fifth shorter or longer by chance", () => {
    expect(openPeriods({}, 1, 0)).toEqual([4_000]);
    expect(openPeriods({}, 1, 0.75)).toEqual([5_500]);
    expect(openPeriods({ openJitter: 0 }, 1, 0)).toEqual([5_000]);
  });

  it("grow only while probes fail: once closed, it begins with the first again", () => {
    const { breaker, clock, fail, succeed } = opened();
    clock.advance(5_000);
    fail();
    clock.advance(10_000);
    succeed(3);
    fail(5);
    expect(breaker.check()?.retryAfterMs).toBe(5_000);
  });
});

describe("the other side's word on when to come back", () => {
  it("makes the open period longer", () => {
    const { breaker, fail } = setup();
    fail(4);
    fail(1, { retryAfterMs: 12_000 });
    expect(breaker.check()?.retryAfterMs).toBe(13_200);
  });

  it("is never cut short by chance, and up to a fifth later", () => {
    const { breaker, chance, fail } = setup();
    chance.is = 0;
    fail(5, { retryAfterMs: 12_000 });
    expect(breaker.check()?.retryAfterMs).toBe(12_000);
  });

  it("does not make it shorter", () => {
    const { breaker, fail } = setup();
    fail(5, { retryAfterMs: 100 });
    expect(breaker.check()?.retryAfterMs).toBe(5_000);
  });

  it("holds from the time at which it was said, whichever failure said it", () => {
    const { breaker, clock, fail } = setup({ openJitter: 0 });
    fail(1, { retryAfterMs: 20_000 });
    clock.advance(4_000);
    fail(4, { retryAfterMs: 1_000 });
    expect(breaker.check()?.retryAfterMs).toBe(16_000);
  });

  it("holds for no longer than the longest open period", () => {
    const { breaker, clock, fail } = setup({ openJitter: 0 });
    fail(1, { retryAfterMs: 3_600_000 });
    clock.advance(10_000);
    fail(4);
    expect(breaker.check()?.retryAfterMs).toBe(50_000);
  });

  it("is heard of a probe too", () => {
    const { breaker, clock, fail } = opened({ openJitter: 0 });
    clock.advance(5_000);
    fail(1, { unserved: "shed", retryAfterMs: 30_000 });
    expect(breaker.check()?.retryAfterMs).toBe(30_000);
  });

  it("is not heard of a success, nor of what counts for nothing", () => {
    const { breaker, admit, fail } = setup({ openJitter: 0 });
    admit().settle("success", { retryAfterMs: 30_000 });
    admit().settle("ignored", { retryAfterMs: 30_000 });
    fail(5);
    expect(breaker.check()?.retryAfterMs).toBe(5_000);
  });

  it("does not outlast the opening that it led to", () => {
    const { breaker, clock, fail, succeed } = setup({ openJitter: 0, maxOpenMs: 40_000 });
    fail(5, { retryAfterMs: 40_000 });
    clock.advance(40_000);
    succeed(3);
    fail(5);
    expect(breaker.check()?.retryAfterMs).toBe(5_000);
  });
});
