import type { Deadline } from "@grpc/grpc-js";
import type { Clock } from "../core/clock.js";
import { maxDurationMs } from "../core/options.js";

/**
 * How much later than its own deadline a client of the toolkit lets grpc-js's deadline be, on the wire too.
 * It is a net: the toolkit's timer can look once more whether the answer has come, grpc-js's cannot.
 */
export const deadlineNetMs = 50;

/**
 * Whether an inbound call that was cancelled now ran out of time. A client of the toolkit gives up before
 * the deadline on the wire by the width of the net, and whole milliseconds on the wire blur it a little.
 */
export function ranOutOfTime(nowMs: number, deadlineMs: number): boolean {
  return nowMs >= deadlineMs - deadlineNetMs - 2;
}

/**
 * Reads a gRPC deadline (a Date or epoch milliseconds) as monotonic milliseconds. Wall time is
 * looked at once, here, so a step of the system clock moves no running deadline. Deadlines further
 * than 24 days away are clamped to that: beyond 24.8 days a grpc-js server overflows and ends the
 * call at once.
 *
 * @returns `Infinity` for no deadline, `undefined` for one that is not a time at all (NaN, an
 * invalid Date, another type): grpc-js would leave such a call hanging.
 */
export function toMonotonic(
  deadline: Deadline | null | undefined,
  clock: Clock,
  nowMs: number,
): number | undefined {
  if (deadline === undefined || deadline === null) return Number.POSITIVE_INFINITY;
  const epochMs = deadline instanceof Date ? deadline.getTime() : deadline;
  if (typeof epochMs !== "number" || Number.isNaN(epochMs)) return undefined;
  if (epochMs === Number.POSITIVE_INFINITY) return epochMs;
  return nowMs + Math.min(epochMs - clock.wallNow(), maxDurationMs);
}

/** A deadline that its owner cannot change: a Date can be set. */
export function fixedDeadline(deadline: Date): Deadline {
  const epochMs = deadline.getTime();
  // One that is no time is refused where it is read, and named there.
  return Number.isNaN(epochMs) ? deadline : epochMs;
}

/** The other way, for `CallOptions.deadline`. */
export function toEpoch(monotonicMs: number, clock: Clock): number {
  if (monotonicMs === Number.POSITIVE_INFINITY) return monotonicMs;
  return clock.wallNow() + (monotonicMs - clock.now());
}
