import type { Closed } from "./breaker-closed.js";
import type { HalfOpen } from "./breaker-half-open.js";

/** No call passes before `untilMs`. */
export interface Open {
  readonly kind: "open";
  readonly untilMs: number;
  /** Written once at the opening, for the many refusals that follow. */
  readonly detail: string;
  /** The channel has had no connection at some time since: the next one is news. */
  unconnected: boolean;
}

/** No call passes until somebody says so. */
export interface ForcedOpen {
  readonly kind: "forced-open";
}

/** Each state that is entered is an object of its own, by which a permit knows the one that gave it. */
export type BreakerState = Closed | Open | HalfOpen | ForcedOpen;

/**
 * `closed`: calls pass and are counted. `open`: none passes. `half-open`: a few probes pass. Those that are
 * forced stay so until they are released.
 */
export type BreakerStateName = BreakerState["kind"];
