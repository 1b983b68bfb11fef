/**
 * The source of time of every policy and interceptor. Nothing else in the toolkit reads a clock or sets a timer, so a test
 * or a simulation can pass in a virtual clock.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/testing.md
 */
export interface Clock {
  /** Monotonic milliseconds. Only the difference of two readings has a meaning. */
  now(): number;
  /** Milliseconds since the Unix epoch, for the deadlines of gRPC. It may jump, so no duration is measured with it. */
  wallNow(): number;
  /**
   * Runs `task` once, `delayMs` milliseconds from now, and never inside the call that schedules it.
   *
   * @param options A timer that a call waits for keeps the process alive; housekeeping passes `ref: false`.
   * @returns Cancels the task. Does nothing when the task has run or was cancelled before.
   */
  schedule(delayMs: number, task: () => void, options?: ScheduleOptions): CancelTask;
  /**
   * Runs `task` once, after input that waits in the sockets has been read. A timer uses it before it declares a time-out:
   * Node runs due timers before it reads sockets, so the answer may have arrived and not be read yet.
   */
  afterPoll(task: () => void): CancelTask;
}

export interface ScheduleOptions {
  /** Whether the timer keeps the process alive. @defaultValue true */
  readonly ref?: boolean;
}

/** What is added to a time of the monotonic clock for one of the wall clock, in milliseconds, as the clocks stand now. */
export function epochOffsetMs(clock: Clock): number {
  return clock.wallNow() - clock.now();
}

/** Cancels a scheduled task. Safe to call more than once. */
export type CancelTask = () => void;

/** The longest delay that one Node timer can carry; a longer one would fire at once. */
const maxTimerMs = 2 ** 31 - 1;

/** The clock of the process: `performance.now`, `Date.now`, `setTimeout`, `setImmediate`. */
export const systemClock: Clock = {
  now: () => performance.now(),
  wallNow: () => Date.now(),
  schedule(delayMs, task, options) {
    const ref = options?.ref ?? true;
    let timer: NodeJS.Timeout;
    if (delayMs <= maxTimerMs) {
      timer = setTimeout(task, delayMs);
      if (!ref) timer.unref();
      return () => clearTimeout(timer);
    }
    let remainingMs = delayMs;
    const arm = () => {
      const stepMs = Math.min(remainingMs, maxTimerMs);
      remainingMs -= stepMs;
      timer = setTimeout(remainingMs > 0 ? arm : task, stepMs);
      if (!ref) timer.unref();
    };
    arm();
    return () => clearTimeout(timer);
  },
  afterPoll(task) {
    // `setImmediate` runs in the check phase of the event loop, which follows the poll phase. Called from inside the check
    // phase, it runs in the next one, after another poll.
    const immediate = setImmediate(task);
    return () => clearImmediate(immediate);
  },
};

/** A timer that is later than this many milliseconds was delayed by a busy process, and not by its own imprecision. */
const heldUpMs = 20;

/**
 * Whether a time-out says nothing about the other side, because this process was too busy: it may have sent the request or
 * read the answer too late.
 *
 * @param lateMs How late the timer was, in milliseconds.
 */
export function heldUp(lateMs: number): boolean {
  return lateMs > heldUpMs;
}

/**
 * Runs `task` when a time is up, after the sockets have been read once more: what was waited for may have arrived already.
 *
 * @param dueMs When the time is up, on the monotonic clock.
 * @param delayMs The same from now on. Given too, so that the clock is not read again.
 * @param task Gets how late the timer was, in milliseconds.
 */
export function expireAt(
  clock: Clock,
  dueMs: number,
  delayMs: number,
  task: (lateMs: number) => void,
): CancelTask {
  let cancel = clock.schedule(delayMs, () => {
    const lateMs = clock.now() - dueMs;
    cancel = clock.afterPoll(() => task(lateMs));
  });
  return () => cancel();
}

/**
 * The source of chance: a number from 0 to below 1, as from `Math.random`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/testing.md
 */
export type Random = () => number;

/** The chance of the process, `Math.random`. Not for secrets. */
export const systemRandom: Random = () => Math.random();
