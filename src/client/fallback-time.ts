import type { CancelTask } from "../core/clock.js";
import { expireAt } from "../core/expiry.js";
import type { CallRecord, OptionsWithOwn } from "../grpc/call-record.js";
import { CallDeadline } from "../grpc/deadline.js";

/**
 * The time that the service itself is given: that of the call, less what is kept for its fallback. What stands below
 * reads the time of a call from its record, so it stands there until the service has answered.
 */
export class PrimaryTime {
  /** Until when, on the monotonic clock. */
  readonly untilMs: number;
  readonly availableMs: number;
  readonly reserveMs: number;
  readonly #record: CallRecord;
  /** What the record said before. */
  #ownMs: number | undefined;
  #stopTimer: CancelTask | undefined;

  constructor(record: CallRecord, reserveMs: (availableMs: number) => number) {
    this.#record = record;
    const nowMs = record.clock.now();
    this.reserveMs = reserveMs(record.deadlineMs - nowMs);
    this.untilMs = record.deadlineMs - this.reserveMs;
    this.availableMs = this.untilMs - nowMs;
  }

  /** Runs `task` in the caller's context when it is over. Without a reserve, the call's deadline sees to that. */
  whenOver(task: () => void): void {
    if (this.reserveMs === 0) return;
    const { clock, restore } = this.#record;
    this.#stopTimer = expireAt(clock, this.untilMs, this.availableMs, () => restore(task));
  }

  /**
   * Takes the reserve out of what the call below is told. On the wire only of a single response, which can be
   * replaced to its end: a stream that has begun may use all the time there is.
   */
  shorten(options: OptionsWithOwn, single: boolean): OptionsWithOwn {
    if (this.reserveMs === 0) return options;
    const record = this.#record;
    const { clock, connection } = record;
    this.#ownMs = record.deadlineMs;
    record.deadlineMs = this.untilMs;
    if (!single) return options;
    const leftMs = this.untilMs - clock.now();
    const deadline = new CallDeadline(this.untilMs, leftMs, clock, connection !== undefined);
    return { ...options, deadline };
  }

  /** The service has answered, or is no longer asked: the time of the call is its own again. */
  end(): void {
    this.#stopTimer?.();
    this.#stopTimer = undefined;
    if (this.#ownMs === undefined) return;
    this.#record.deadlineMs = this.#ownMs;
    this.#ownMs = undefined;
  }
}
