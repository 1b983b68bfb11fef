import type { Outcome } from "../../core/permit.js";

/** How a call ended that tells something about the limit. */
export type Evidence = Exclude<Outcome, "ignored">;

/**
 * How many calls may run at once: a number that is fixed, or one that is learnt from how calls go. A limit runs no
 * timer and keeps no call; it hears of each call that ran when that call ends.
 */
export interface Limit {
  /** The limit now, a whole number of at least 1. */
  readonly current: number;
  /**
   * A call that ran has ended.
   *
   * @param nowMs Monotonic milliseconds; they never run backwards from one call to the next.
   * @param tookMs How long it ran, without the time that it waited to be admitted.
   * @param inFlight How many ran when it was admitted, itself among them.
   * @param outcome `success`: it was served in time. `failure`: it ran out of time, or something below had too much to
   *   do; `tookMs` is then how long it has run so far. Ends that say nothing (`ignored`) are not told.
   */
  record(nowMs: number, tookMs: number, inFlight: number, outcome: Evidence): void;
}

/** A limit that may hold calls back for a while, until it is known what more calls do. */
export interface RampingLimit extends Limit {
  /**
   * How many may run for the present, at least 1; `Infinity` for all that the limit lets run. The others wait, and none is
   * refused for it before its wait is over. @defaultValue `Infinity`
   */
  readonly ramp?: number;
  /** The ramp keeps a call from running now. It may hold back for too long: nothing else tells of calls that do not end. */
  rampHolds?(nowMs: number): void;
}

/** A limit that never changes. */
export function fixedLimit(current: number): Limit {
  return { current, record: () => {} };
}
