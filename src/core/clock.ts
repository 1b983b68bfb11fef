/**
 * The port through which every policy and every interceptor reads and waits for time. Nothing else
 * in the toolkit reaches for a timer, so a test or a simulation can hand in a virtual clock.
 */
export interface Clock {
  /** Monotonic milliseconds. Only differences between readings mean anything. */
  now(): number;
  /** Milliseconds since the epoch. gRPC deadlines are given in it; durations are never measured with it. */
  wallNow(): number;
  /**
   * Runs `task` once, `delayMs` from now, and never inside the call that schedules it.
   * Calling the result cancels the task; cancelling twice, or after the task ran, does nothing.
   *
   * A timer keeps the process alive (`ref: true`, the default) when a call waits for it.
   * Housekeeping passes `ref: false`.
   */
  schedule(delayMs: number, task: () => void, options?: ScheduleOptions): CancelTask;
  /**
   * Runs `task` once, after input that is already waiting in the sockets has been read. A timer that
   * fires late asks for it before it declares a time-out: the answer may be there, unread, because
   * Node runs due timers before it polls.
   */
  afterPoll(task: () => void): CancelTask;
}

export interface ScheduleOptions {
  /** Whether the timer keeps the process alive. @defaultValue true */
  readonly ref?: boolean;
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
    let remainingMs = delayMs;
    let timer: NodeJS.Timeout;
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
    // The check phase follows the poll phase of the same turn, whatever phase we are in now; from
    // inside the check phase, the next turn's poll comes first.
    const immediate = setImmediate(task);
    return () => clearImmediate(immediate);
  },
};

/** A timer later than this, in milliseconds, was held up by a busy process, not by its own imprecision. */
const heldUpMs = 20;

/**
 * Whether a wait that ended by the clock says nothing of who was waited for: this process was held up, and may have
 * sent or read too late by just that time.
 *
 * @param lateMs How late the timer was.
 */
export function heldUp(lateMs: number): boolean {
  return lateMs > heldUpMs;
}

/**
 * Runs `task` when a time is up. Node runs due timers before it reads its sockets, so what the wait was for may be
 * there already, unread: however late the timer is, the sockets are read once more before the task runs.
 *
 * @param dueMs When it is up, on the monotonic clock.
 * @param delayMs The same, from now; given besides so that nobody reads the clock twice.
 * @param task Is told how late the timer was, in milliseconds.
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

/** The port of chance: a number in [0, 1), as from `Math.random`. */
export type Random = () => number;

/** The chance of the process. Not for secrets. */
export const systemRandom: Random = () => Math.random();
