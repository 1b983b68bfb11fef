import { describe, expect, it } from "vitest";
import { InvalidOptionError } from "../../../src/core/options.js";
import {
  type BackoffOptions,
  exponentialBackoff,
  type Jitter,
} from "../../../src/policies/retry/backoff.js";

const least = () => 0;
const middle = () => 0.5;
/** The greatest number that a source of chance gives. */
const most = () => 1 - 2 ** -53;

const never = () => {
  throw new Error("asked for chance");
};

describe("exponential backoff", () => {
  it("doubles from 100 ms to 2 s with full jitter unless told otherwise", () => {
    const backoff = exponentialBackoff();
    const upTo = [1, 2, 3, 4, 5, 6, 7].map((retry) => Math.round(backoff(retry, 0, most)));
    expect(upTo).toEqual([100, 200, 400, 800, 1_600, 2_000, 2_000]);
    expect(backoff(3, 0, least)).toBe(0);
    expect(backoff(3, 0, middle)).toBe(200);
  });

  it("leaves nothing to chance without jitter", () => {
    const backoff = exponentialBackoff({ baseMs: 10, maxMs: 100, multiplier: 3, jitter: "none" });
    expect([1, 2, 3, 4].map((retry) => backoff(retry, 0, never))).toEqual([10, 30, 90, 100]);
  });

  it("waits half for certain with equal jitter", () => {
    const backoff = exponentialBackoff({ jitter: "equal" });
    expect(backoff(2, 0, least)).toBe(100);
    expect(backoff(2, 0, middle)).toBe(150);
    expect(backoff(2, 0, most)).toBeCloseTo(200);
  });

  it("spreads by a fifth either way with proportional jitter, around the limit too", () => {
    const backoff = exponentialBackoff({ jitter: "proportional" });
    expect(backoff(1, 0, least)).toBe(80);
    expect(backoff(1, 0, middle)).toBe(100);
    expect(backoff(1, 0, most)).toBeCloseTo(120);
    expect(backoff(50, 0, least)).toBe(1_600);
    expect(backoff(50, 0, most)).toBeCloseTo(2_400);
  });

  it("chooses between the base and three times the delay before with decorrelated jitter", () => {
    const backoff = exponentialBackoff({ jitter: "decorrelated" });
    expect(backoff(2, 250, least)).toBe(100);
    expect(backoff(2, 250, middle)).toBe(425);
    expect(backoff(2, 250, most)).toBeCloseTo(750);
    expect(backoff(9, 1_900, most)).toBe(2_000);
  });

  it("takes the base for the delay before the first with decorrelated jitter", () => {
    const backoff = exponentialBackoff({ jitter: "decorrelated" });
    expect(backoff(1, 0, least)).toBe(100);
    expect(backoff(1, 0, most)).toBeCloseTo(300);
  });

  it("stays constant with a multiplier of 1", () => {
    const backoff = exponentialBackoff({ multiplier: 1, jitter: "none" });
    expect(backoff(1, 0, never)).toBe(100);
    expect(backoff(1_000, 0, never)).toBe(100);
  });

  it.each<Jitter>(["none", "full", "equal", "decorrelated", "proportional"])(
    "does not wait at all from a base of 0 with jitter %s, at any retry number",
    (jitter) => {
      const backoff = exponentialBackoff({ baseMs: 0, jitter });
      for (const retry of [1, 2, 1_025, Number.MAX_SAFE_INTEGER]) {
        expect(backoff(retry, 0, middle)).toBe(0);
      }
    },
  );

  it.each([
    { baseMs: 50, maxMs: 50, multiplier: 1 },
    { baseMs: 0, maxMs: 0, multiplier: 100 },
  ])("may be as narrow or as steep as %j", (options) => {
    const backoff = exponentialBackoff({ ...options, jitter: "none" });
    expect([1, 2, 3].map((retry) => backoff(retry, 0, never))).toEqual(
      Array(3).fill(options.baseMs),
    );
  });

  it.each([
    ["retry.backoff.baseMs", { baseMs: -1 }],
    ["retry.backoff.baseMs", { baseMs: Number.POSITIVE_INFINITY }],
    ["retry.backoff.maxMs", { baseMs: 500, maxMs: 499 }],
    ["retry.backoff.maxMs", { baseMs: 3_000 }],
    ["retry.backoff.multiplier", { multiplier: 0.9 }],
    ["retry.backoff.multiplier", { multiplier: 100.1 }],
    ["retry.backoff.multiplier", { multiplier: Number.NaN }],
    ["retry.backoff.jitter", { jitter: "some" }],
    ["retry.backoff.jitter", { jitter: null }],
    ["retry.backoff.max", { max: 5 }],
    ["retry.backoff", null],
  ])("refuses a senseless %s", (option, options) => {
    const build = () => exponentialBackoff(options as BackoffOptions, "retry.backoff");
    expect(build).toThrow(expect.objectContaining({ name: InvalidOptionError.name, option }));
  });

  it("names its options from `backoff` on when nobody says whose they are", () => {
    expect(() => exponentialBackoff({ baseMs: -1 })).toThrow("backoff.baseMs must be");
  });
});
