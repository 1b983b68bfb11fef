import type { Clock } from "../../src/core/clock.js";

/**
 * Time for policies that only read it. It moves when told to and starts far from 0, as that of a
 * process that has been up for a while.
 */
export interface FakeClock extends Pick<Clock, "now"> {
  advance(ms: number): void;
}

export function fakeClock(startMs = 987_654.25): FakeClock {
  let nowMs = startMs;
  return {
    now: () => nowMs,
    advance(ms) {
      nowMs += ms;
    },
  };
}
