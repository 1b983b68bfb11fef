import type { HrTime } from "@opentelemetry/api";
import type { Clock } from "../core/clock.js";

/**
 * Turns readings of the toolkit's clock into times of spans. The wall clock is read once for each call, so
 * that a step of it bends no duration, and a virtual clock gives virtual spans.
 */
export class SpanTime {
  readonly #offsetMs: number;

  constructor(clock: Clock) {
    this.#offsetMs = clock.wallNow() - clock.now();
  }

  /** A pair, not a number: small numbers are read as `performance.now()`, and a virtual clock may be young. */
  at(monotonicMs: number): HrTime {
    const epochMs = this.#offsetMs + monotonicMs;
    const seconds = Math.floor(epochMs / 1000);
    const nanos = Math.round((epochMs - seconds * 1000) * 1e6);
    return nanos < 1e9 ? [seconds, nanos] : [seconds + 1, 0];
  }
}
