import { expect, it } from "vitest";
import { SampleWindow, type WindowSummary } from "../../src/core/stats/sample-window.js";

/** Windows of a second, each filled by calls that end evenly spread; the last one closes it. */
function setup() {
  const window = new SampleWindow(1_000, 2);
  let sinceMs = 5_000;
  window.record(sinceMs, 1, 1, true);
  return (calls: number, tookMs: number, inFlight: number, good = true) => {
    let summary: WindowSummary | undefined;
    for (let call = 1; call <= calls; call += 1) {
      expect(summary).toBeUndefined();
      summary = window.record(sinceMs + (1_000 * call) / calls, tookMs, inFlight, good);
    }
    sinceMs += 1_000;
    // A copy of what the next call changes.
    return summary && { ...summary };
  };
}

it("the first window is left out, for the slow calls of it have not ended yet", () => {
  const second = setup();
  expect(second(10, 20, 4)).toBeUndefined();
  expect(second(10, 20, 4)?.meanMs).toBe(20);
});

it("what a window says is of its own calls alone, whatever the one before was", () => {
  const second = setup();
  second(10, 1_000, 90, false);
  expect(second(10, 400, 50)).toMatchObject({
    samples: 10,
    meanMs: 400,
    meanInFlight: 50,
    maxInFlight: 50,
    goodPerSecond: 10,
  });
  const last = second(20, 20, 4, false);
  expect(last).toMatchObject({
    samples: 20,
    meanMs: 20,
    meanInFlight: 4,
    maxInFlight: 4,
    goodPerSecond: 0,
  });
  expect(last?.p90Ms).toBeGreaterThan(19);
  expect(last?.p90Ms).toBeLessThan(21);
});

it("a window goes on until it has enough calls, and its rate is that of the time it took", () => {
  const window = new SampleWindow(1_000, 3);
  for (const nowMs of [0, 500, 1_000]) window.record(nowMs, 10, 1, true);
  expect(window.record(2_000, 10, 1, true)).toBeUndefined();
  expect(window.record(4_000, 10, 1, true)).toBeUndefined();
  expect(window.record(5_000, 10, 1, true)).toMatchObject({ samples: 3, goodPerSecond: 0.75 });
});
