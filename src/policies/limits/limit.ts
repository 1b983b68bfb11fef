import type { Outcome } from "../../core/permit.js";

/** How a call counts for a limit. */
export type Evidence = Exclude<Outcome, "ignored">;

/**
 * How many calls may run at once: a fixed number, or one that is learnt from the calls that end. A limit sets no timer and
 * keeps no calls.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/adaptive-limits.md
 */
export interface Limit {
  /** The limit now, a whole number of at least 1. */
  readonly current: number;
  /**
   * A call has ended. Not called for ends that say nothing about the limit (`ignored`).
   *
   * @param nowMs Monotonic milliseconds, which never decrease from one call to the next.
   * @param tookMs How long the call ran, without its wait in the queue, in milliseconds.
   * @param inFlight How many calls were running when it was admitted, itself included.
   * @param outcome `success`: it was served in time. `failure`: it ran out of time, or a service that it called was
   *   overloaded; then `tookMs` is how long it ran until that.
   */
  record(nowMs: number, tookMs: number, inFlight: number, outcome: Evidence): void;
}

/** A limit with slow start: after a surge, it lets only some calls run until it knows how more calls would fare. */
export interface RampingLimit extends Limit {
  /**
   * How many calls may run for now, at least 1; `Infinity` for as many as the limit allows. The other calls wait in the queue,
   * for no longer than usual. @defaultValue `Infinity`
   */
  readonly ramp?: number;
  /**
   * Called when only the ramp keeps a call from running. While no running call ends, `record` is not called; from this
   * function the limit learns that its ramp may have held calls back for too long.
   */
  rampHolds?(nowMs: number): void;
}

/** A limit that never changes. */
export function fixedLimit(current: number): Limit {
  return { current, record: () => {} };
}
