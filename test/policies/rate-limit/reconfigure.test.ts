import { describe, expect, it } from "vitest";
import {
  type RateLimitOptions,
  resolveRateLimitOptions,
} from "../../../src/policies/rate-limit/options.js";
import { RateLimit } from "../../../src/policies/rate-limit/rate-limit.js";
import { TokenBucket } from "../../../src/policies/rate-limit/token-bucket.js";
import { permitOf } from "../../core/turns.js";
import { rateScene } from "./rate-scene.js";

function other(options: Partial<RateLimitOptions>): RateLimit {
  const scene = rateScene();
  const resolved = resolveRateLimitOptions({ ratePerSecond: 10, burst: 1, ...options });
  return new RateLimit(
    resolved,
    { clock: scene.limit.clock, report: scene.limit.report, random: () => 0 },
    "rate",
  );
}

describe("a token bucket whose rate changes", () => {
  it.each([
    [0, 100],
    [3, 70],
    [10, 0],
  ])("that was asked for %i of 10 tokens has %i of 100", (taken, left) => {
    const bucket = new TokenBucket({ ratePerSecond: 1, burst: 10 });
    bucket.take(taken, 0);
    bucket.reconfigure({ ratePerSecond: 1, burst: 100 }, 0);
    if (left > 0) expect(bucket.take(left, 0)).toBe(0);
    expect(bucket.take(1, 0)).toBeGreaterThan(0);
  });

  it("adds tokens at the new rate from then on, and at the old one until then", () => {
    const bucket = new TokenBucket({ ratePerSecond: 1, burst: 10 });
    bucket.take(10, 0);
    bucket.reconfigure({ ratePerSecond: 100, burst: 10 }, 4_000);
    expect(bucket.take(4, 4_000)).toBe(0);
    expect(bucket.take(1, 4_000)).toBeCloseTo(10);
    expect(bucket.take(6, 4_060)).toBe(0);
  });
});

describe("a rate limit whose options change", () => {
  it("lets a call that waits go on when its token comes by the new rate", () => {
    const { clock, limit, enter } = rateScene({ ratePerSecond: 1, maxWaitMs: 5_000 });
    enter();
    const waiting = enter();
    expect(waiting.fate()).toBe("queued");
    limit.reconfigure(other({ ratePerSecond: 100, maxWaitMs: 5_000 }));
    clock.advance(10);
    expect(waiting.fate()).toBe("admitted");
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("ends a wait that has begun when it would have ended, and refuses what can never be had", () => {
    const { clock, limit, enter } = rateScene({ ratePerSecond: 1, burst: 2, maxWaitMs: 3_000 });
    enter({ cost: 2 });
    const [heavy, light] = [enter({ cost: 2 }), enter()];
    limit.reconfigure(other({ ratePerSecond: 0.001, burst: 1, maxWaitMs: 0 }));
    expect(heavy.fate()).toBe("RATE_LIMIT_EXCEEDED");
    expect(light.fate()).toBe("RATE_LIMIT_EXCEEDED");
    expect(limit.snapshot()).toMatchObject({ ratePerSecond: 0.001, burst: 1, queued: 0 });
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("takes tokens back that were taken before", () => {
    const { limit, enter } = rateScene();
    const taken = enter();
    limit.reconfigure(other({ ratePerSecond: 5 }));
    expect(enter().fate()).toBe("RATE_LIMIT_EXCEEDED");
    taken.abandon();
    expect(permitOf(enter().entry)).toBeDefined();
  });
});
