import type { CancelTask, Clock } from "./clock.js";

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
