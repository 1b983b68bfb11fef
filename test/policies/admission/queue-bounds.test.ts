import { describe, expect, it } from "vitest";
import { resolveAdmissionOptions } from "../../../src/policies/admission/options.js";
import { QueueBounds } from "../../../src/policies/admission/queue-bounds.js";

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
