import { describe, expect, it } from "vitest";
import { resolveAdmissionOptions } from "../../../src/policies/admission/options.js";
import { LatencyTarget, QueueBounds } from "../../../src/policies/admission/queue-bounds.js";

/** Handlers of 2 ms, and so many slots; callers who come with twice the ceiling. */
function bounds({ options = {}, slots = 1_000, ceilingMs = undefined as number | undefined } = {}) {
  const made = new QueueBounds(
    resolveAdmissionOptions(options),
    { ms: ceilingMs },
    { count: slots, atBestIn: (ms) => ms / 2 },
  );
  made.begin();
  return made;
}

describe("the queue of a burst", () => {
  it("holds what gets through in a second, where callers give no deadline", () => {
    expect(bounds().maxQueued).toBe(500);
    expect(bounds().longestWaitMs("normal", Infinity)).toBe(1_000);
  });

  it("holds what gets through in a third of the time that callers come with as a rule", () => {
    expect(bounds({ ceilingMs: 150 }).maxQueued).toBe(50);
    expect(bounds({ ceilingMs: 600 }).maxQueued).toBe(200);
    expect(bounds({ ceilingMs: 60_000 }).maxQueued).toBe(500);
    expect(bounds().longestWaitMs("normal", 300)).toBe(100);
  });

  it("holds no more than there are slots, and never fewer than 16", () => {
    expect(bounds({ slots: 40 }).maxQueued).toBe(40);
    expect(bounds({ slots: 40, ceilingMs: 1 }).maxQueued).toBe(16);
  });

  it("is what somebody has said", () => {
    expect(bounds({ options: { maxQueued: 7 } }).maxQueued).toBe(7);
    const own = bounds({ options: { maxWaitMs: 40 } });
    expect(own.maxQueued).toBe(20);
    expect(own.longestWaitMs("normal", 60)).toBe(40);
    expect(bounds({ options: { maxWaitMs: 0 } }).maxQueued).toBe(0);
  });
});

describe("a queue counts as a standing one", () => {
  it("after 100 ms where it is for slots", () => {
    const slots = bounds({ ceilingMs: 300 });
    slots.waits(true);
    slots.waits(false);
    expect(slots.intervalMs).toBe(100);
  });

  it("after half of what callers give where it is for the event loop", () => {
    for (const [ceilingMs, intervalMs] of [
      [300, 300],
      [40, 100],
      [undefined, 500],
    ] as const) {
      const loop = bounds({ ceilingMs });
      loop.waits(true);
      expect(loop.intervalMs).toBe(intervalMs);
    }
  });

  it("when somebody has said so", () => {
    const own = bounds({ options: { queue: { intervalMs: 7 } }, ceilingMs: 300 });
    expect(own.intervalMs).toBe(7);
    own.waits(true);
    expect(own.intervalMs).toBe(7);
  });
});

describe("a queue that stands", () => {
  it("is as short as what gets through in 100 ms, and who comes waits no longer", () => {
    const standing = bounds();
    standing.setStanding(true);
    expect(standing.maxQueued).toBe(50);
    expect(standing.longestWaitMs("normal", Infinity)).toBe(100);
    expect(standing.longestWaitMs("critical", Infinity)).toBe(1_000);
    standing.setStanding(false);
    expect(standing.maxQueued).toBe(500);
  });

  it("is no longer than that of a burst", () => {
    const standing = bounds({ ceilingMs: 60 });
    standing.setStanding(true);
    expect(standing.maxQueued).toBe(20);
  });

  it("keeps to what somebody has said", () => {
    const standing = bounds({ options: { maxWaitMs: 400 } });
    standing.setStanding(true);
    expect(standing.maxQueued).toBe(200);
    expect(standing.longestWaitMs("high", Infinity)).toBe(400);
  });
});

describe("the time that calls should take at most", () => {
  const noted = (...given: [times: number, leftMs: number, usualMs?: number][]) => {
    const target = new LatencyTarget();
    for (const [times, leftMs, usualMs] of given) {
      for (let call = 0; call < times; call += 1) target.note(leftMs, usualMs);
    }
    return target.ms;
  };

  it("is half of the median time that twenty callers gave, and none before", () => {
    expect(noted([19, 100])).toBeUndefined();
    expect(noted([20, 100])).toBe(50);
    expect(noted([10, 100], [11, 300])).toBe(150);
    expect(noted([1_000, Infinity])).toBeUndefined();
  });

  it("goes by the last 101 of them", () => {
    expect(noted([1_000, 400], [50, 100])).toBe(200);
    expect(noted([1_000, 400], [51, 100])).toBe(50);
  });

  it("is not brought down by callers who give less than three times what is usual", () => {
    expect(noted([20, 100, 50])).toBe(75);
    expect(noted([20, 50, 50])).toBe(75);
    expect(noted([20, 49, 50])).toBeUndefined();
    expect(noted([20, 160, 50])).toBe(80);
  });

  it("leaves an eighth of it to one turn of the event loop, and no more than 20 ms", () => {
    const target = new LatencyTarget();
    expect(target.turnMs).toBe(20);
    for (let call = 0; call < 20; call += 1) target.note(80);
    expect(target.turnMs).toBe(5);
    for (let call = 0; call < 101; call += 1) target.note(3_200);
    expect(target.turnMs).toBe(20);
  });
});
