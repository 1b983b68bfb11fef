import { describe, expect, it } from "vitest";
import { enterRow } from "../../src/core/quota-row.js";
import { RateLimit } from "../../src/core/rate-limit.js";
import { type RateLimitOptions, resolveRateLimitOptions } from "../../src/core/rate-options.js";
import type { Turn } from "../../src/core/turn.js";
import { VirtualClock } from "../../src/testing/virtual-clock.js";
import { ManualStore } from "./rate-scene.js";
import { fateOf, queuedOf } from "./turns.js";

function setup(...row: Partial<RateLimitOptions>[]) {
  const clock = new VirtualClock();
  const surroundings = { clock, random: () => 0, report: () => {} };
  const limits = row.map(
    (options) =>
      new RateLimit(
        resolveRateLimitOptions({ ratePerSecond: 10, burst: 1, ...options }),
        surroundings,
        "quota",
      ),
  );
  const enter = (cost = 1) => {
    const turns: Turn[] = [];
    const waits: number[] = [];
    const steps = limits.map((limit, index) => ({ limit, key: `key ${index}`, cost }));
    const entry = enterRow(steps, {
      rank: 2,
      deadlineMs: Infinity,
      onTurn: (turn, waitedMs) => {
        turns.push(turn);
        waits.push(waitedMs);
      },
    });
    return { entry, waits, turns, fate: () => fateOf(turns[0] ?? entry) };
  };
  /** Tokens that a quota has left. */
  const left = (index: number) => {
    let tokens = 0;
    const ask = { key: `key ${index}`, cost: 1, rank: 0, deadlineMs: Infinity, onTurn: () => {} };
    while (
      fateOf(limits[index]?.enter(ask) ?? { kind: "refusal", reason: "CLOSED", detail: "" }) ===
      "admitted"
    )
      tokens += 1;
    return tokens;
  };
  return { clock, limits, enter, left };
}

describe("several quotas in a row", () => {
  it("let a call go on that passes all", () => {
    const { enter, left } = setup({ burst: 3 }, { burst: 2 });
    expect([enter(), enter()].map(({ fate }) => fate())).toEqual(["admitted", "admitted"]);
    expect([left(0), left(1)]).toEqual([1, 0]);
  });

  it("give the tokens of the first back when a later one refuses", () => {
    const { enter, left } = setup({ burst: 5 }, { burst: 5 }, { burst: 2 });
    expect(enter(2).fate()).toBe("admitted");
    expect(enter(2).fate()).toBe("RATE_LIMIT_EXCEEDED");
    expect([left(0), left(1), left(2)]).toEqual([3, 3, 0]);
  });

  it("ask the later ones for nothing when the first refuses", () => {
    const { enter, left } = setup({ burst: 1 }, { burst: 5 });
    enter();
    expect(enter().fate()).toBe("RATE_LIMIT_EXCEEDED");
    expect(left(1)).toBe(4);
  });

  it("make a call wait at each, and tell of the waits together", () => {
    const { clock, enter, limits } = setup(
      { maxWaitMs: 1_000 },
      { maxWaitMs: 1_000, ratePerSecond: 5 },
    );
    enter();
    const second = enter();
    clock.advance(100);
    expect(second.fate()).toBe("queued");
    clock.advance(100);
    expect(second.fate()).toBe("admitted");
    expect(second.waits).toEqual([200]);
    expect(limits.map((limit) => limit.snapshot().queued)).toEqual([0, 0]);
    expect(clock.pending.refs).toBe(0);
  });

  it("give back when a later one refuses after a wait", () => {
    const { clock, enter, left } = setup(
      { burst: 5, ratePerSecond: 0.001 },
      { maxWaitMs: 1_000 },
      { ratePerSecond: 0.001 },
    );
    expect(enter().fate()).toBe("admitted");
    const second = enter();
    expect(second.fate()).toBe("queued");
    clock.advance(100);
    expect(second.fate()).toBe("RATE_LIMIT_EXCEEDED");
    expect(second.waits).toEqual([100]);
    expect([left(0), left(1)]).toEqual([4, 1]);
  });

  it("give the tokens of the first back when a call leaves that waits at a later one", () => {
    const { clock, enter, left, limits } = setup({ burst: 5 }, { maxWaitMs: 1_000 });
    enter();
    const second = enter();
    expect(queuedOf(second.entry).leave()).toBe(true);
    expect(queuedOf(second.entry).leave()).toBe(false);
    expect(left(0)).toBe(4);
    clock.advance(1_000);
    expect(second.turns).toEqual([]);
    expect(limits[1]?.snapshot()).toMatchObject({ queued: 0, admitted: 1, left: 1 });
  });

  it("give back to a store that answers later, in their order", async () => {
    const store = new ManualStore();
    const { enter } = setup({ store }, {});
    const [first, second] = [enter(), enter()];
    for (const { answer } of store.asked) answer({ granted: true });
    for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
    expect([first.fate(), second.fate()]).toEqual(["admitted", "RATE_LIMIT_EXCEEDED"]);
    expect(store.givenBack).toEqual([{ key: "key 0", cost: 1 }]);
  });

  it("of none let everybody pass", () => {
    expect(setup().enter().fate()).toBe("admitted");
  });
});
