import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TokenBucket } from "../../../src/policies/rate-limit/token-bucket.js";

const startMs = 987_654.25;

describe("a token bucket", () => {
  it("is full at first, and gives its burst without a pause", () => {
    const bucket = new TokenBucket({ ratePerSecond: 10, burst: 3 });
    expect([1, 2, 3].map(() => bucket.take(1, startMs))).toEqual([0, 0, 0]);
    expect(bucket.take(1, startMs)).toBe(100);
  });

  it("takes nothing when there is not enough", () => {
    const bucket = new TokenBucket({ ratePerSecond: 10, burst: 3 });
    bucket.take(2, startMs);
    expect(bucket.take(2, startMs)).toBe(100);
    expect(bucket.take(1, startMs)).toBe(0);
  });

  it("fills up to the burst and no further, however long nobody comes", () => {
    const bucket = new TokenBucket({ ratePerSecond: 10, burst: 3 });
    bucket.take(3, startMs);
    const muchLaterMs = startMs + 1e12;
    expect([1, 2, 3].map(() => bucket.take(1, muchLaterMs))).toEqual([0, 0, 0]);
    expect(bucket.take(1, muchLaterMs)).toBeGreaterThan(0);
  });

  it("says that it can never give more than it holds", () => {
    const bucket = new TokenBucket({ ratePerSecond: 10, burst: 3 });
    expect(bucket.take(3.5, startMs)).toBe(Infinity);
    expect(bucket.take(3, startMs)).toBe(0);
  });

  it("takes back what was not used, and loses what it can not hold", () => {
    const bucket = new TokenBucket({ ratePerSecond: 10, burst: 3 });
    bucket.take(3, startMs);
    bucket.giveBack(2);
    expect(bucket.take(2, startMs)).toBe(0);
    bucket.giveBack(3);
    // Two have come meanwhile, and there is room for three.
    expect(bucket.take(3, startMs + 200)).toBe(0);
    expect(bucket.take(1, startMs + 200)).toBe(100);
  });

  it("takes back to a bucket that was forgotten and made anew", () => {
    const bucket = new TokenBucket({ ratePerSecond: 10, burst: 3 });
    bucket.giveBack(2);
    expect(bucket.take(3, startMs)).toBe(0);
    expect(bucket.take(1, startMs)).toBe(100);
  });

  // Each wait is followed to the letter, so that one rounding too few or too many would show in the sum.
  it.each([
    { ratePerSecond: 3, takes: 300_000, expectedMs: 1e8 },
    { ratePerSecond: 7, takes: 700_000, expectedMs: 1e8 },
    { ratePerSecond: 1_000_000, takes: 1_000_000, expectedMs: 1_000 },
    { ratePerSecond: 0.3, takes: 30_000, expectedMs: 1e8 },
  ])("does not drift: $takes tokens at $ratePerSecond per second", (given) => {
    const bucket = new TokenBucket({ ratePerSecond: given.ratePerSecond, burst: 1 });
    let nowMs = startMs;
    bucket.take(1, nowMs);
    for (let n = 0; n < given.takes; n += 1) {
      nowMs += bucket.take(1, nowMs);
      expectZero(bucket.take(1, nowMs));
    }
    expect(nowMs - startMs).toBeCloseTo(given.expectedMs, 3);
  });

  it("does not drift in a year without a moment of rest", () => {
    const ratePerSecond = 1_000;
    const bucket = new TokenBucket({ ratePerSecond, burst: 600_000 });
    bucket.take(600_000, startMs);
    let nowMs = startMs;
    const year = 365 * 24 * 3_600 * 1_000;
    for (let n = 0; n < year / 599_999; n += 1) {
      nowMs += 599_999;
      expectZero(bucket.take(599_999, nowMs));
      if (n % 1_000 === 0) expect(bucket.take(1, nowMs)).toBeCloseTo(1, 6);
    }
  });
});

/** Cheaper than an expectation, in a loop. */
function expectZero(waitMs: number): void {
  if (waitMs !== 0) throw new Error(`still ${waitMs} ms to wait`);
}

const rate = fc.record({
  ratePerSecond: fc.oneof(
    fc.double({ min: 0.01, max: 10, noNaN: true }),
    fc.integer({ min: 1, max: 100_000 }),
  ),
  burst: fc.oneof(fc.integer({ min: 1, max: 50 }), fc.double({ min: 1, max: 50, noNaN: true })),
});
const step = fc.oneof(
  fc.record({
    op: fc.constant("take" as const),
    afterMs: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 500, noNaN: true })),
    cost: fc.oneof(fc.integer({ min: 1, max: 5 }), fc.double({ min: 0.1, max: 5, noNaN: true })),
  }),
  fc.record({ op: fc.constant("wait" as const), cost: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ op: fc.constant("give back" as const), pick: fc.nat() }),
  fc.record({
    op: fc.constant("idle" as const),
    afterMs: fc.double({ min: 0, max: 1e9, noNaN: true }),
  }),
);

describe("any token bucket", () => {
  it("never gives more than the burst and what comes in the time, in any window", () => {
    fc.assert(
      fc.property(rate, fc.array(step, { maxLength: 60, size: "max" }), (given, script) => {
        const bucket = new TokenBucket(given);
        let nowMs = startMs;
        const out: number[] = [];
        /** Tokens that went out of the bucket, and, below 0, came back. */
        const moves: { atMs: number; tokens: number }[] = [];
        const took = (tokens: number) => {
          out.push(tokens);
          moves.push({ atMs: nowMs, tokens });
        };
        for (const each of script) {
          if (each.op === "give back") {
            const [tokens] = out.splice(each.pick % Math.max(1, out.length), 1);
            if (tokens === undefined) continue;
            bucket.giveBack(tokens);
            moves.push({ atMs: nowMs, tokens: -tokens });
            continue;
          }
          if (each.op !== "wait") nowMs += each.afterMs;
          if (each.op === "idle") continue;
          const waitMs = bucket.take(each.cost, nowMs);
          if (waitMs === 0) took(each.cost);
          else if (waitMs === Infinity) expect(each.cost).toBeGreaterThan(given.burst);
          else if (each.op === "wait") {
            nowMs += waitMs;
            expectZero(bucket.take(each.cost, nowMs));
            took(each.cost);
          }
        }
        // Each move may gain what comes in one rounding of the clock, which is coarse after some months.
        const roundingMs = nowMs * Number.EPSILON;
        for (const [index, first] of moves.entries()) {
          let tokens = 0;
          for (const [since, move] of moves.slice(index).entries()) {
            tokens += move.tokens;
            const forMs = move.atMs - first.atMs + (since + 1) * roundingMs;
            const most = given.burst + (forMs * given.ratePerSecond) / 1_000;
            if (tokens > most * (1 + 1e-12)) expect(tokens).toBeLessThanOrEqual(most);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  it("names a wait that is enough, and not a hair more", () => {
    fc.assert(
      fc.property(
        rate,
        fc.array(fc.double({ min: 0, max: 100, noNaN: true }), { maxLength: 20 }),
        fc.integer({ min: 1, max: 5 }),
        (given, pauses, cost) => {
          fc.pre(cost <= given.burst);
          const bucket = new TokenBucket(given);
          let nowMs = startMs;
          for (const pauseMs of pauses) {
            nowMs += pauseMs;
            bucket.take(Math.min(1, given.burst), nowMs);
          }
          const waitMs = bucket.take(cost, nowMs);
          fc.pre(waitMs > 0);
          expect(bucket.take(cost, nowMs + waitMs - 1e-6)).toBeGreaterThan(0);
          expect(bucket.take(cost, nowMs + waitMs)).toBe(0);
        },
      ),
      { numRuns: 300 },
    );
  });
});
