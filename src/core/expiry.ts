import type { CancelTask, Clock } from "./clock.js";

/** A timer later than this, in milliseconds, was held up by a busy process, not by its own imprecision. */
const lateMs = 20;

/**
 * Runs `task` when a time is up. Node runs due timers before it reads its sockets, so a process that was held up
 * looks once more: what the wait was for may be there already, unread.
 *
 * @param dueMs When it is up, on the monotonic clock.
 * @param delayMs The same, from now; given besides so that nobody reads the clock twice.
 */
export function expireAt(
  clock: Clock,
  dueMs: number,
  delayMs: number,
  task: () => void,
): CancelTask {
  let cancel = clock.schedule(delayMs, () => {
    if (clock.now() - dueMs <= lateMs) task();
    else cancel = clock.afterPoll(task);
  });
  return () => cancel();
}
