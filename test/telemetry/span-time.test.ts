import { expect, it } from "vitest";
import { SpanTime } from "../../src/telemetry/spans.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";

it("gives seconds and nanoseconds of the epoch for a reading of the clock", () => {
  const clock = new VirtualClock({ startMs: 5_000, wallStartMs: 1_750_000_000_250 });
  const time = new SpanTime(clock);
  expect(time.at(5_000)).toEqual([1_750_000_000, 250_000_000]);
  expect(time.at(5_750.5)).toEqual([1_750_000_001, 500_000]);
  expect(time.at(4_500)).toEqual([1_749_999_999, 750_000_000]);
});

it("keeps the nanoseconds below a second", () => {
  const time = new SpanTime(new VirtualClock({ startMs: 0, wallStartMs: 0 }));
  expect(time.at(999.999_999_9)).toEqual([1, 0]);
});

it("does not follow a wall clock that is set while the call runs", () => {
  const clock = new VirtualClock({ startMs: 0, wallStartMs: 10_000 });
  const time = new SpanTime(clock);
  clock.stepWall(60_000);
  expect(time.at(1_000)).toEqual([11, 0]);
});
