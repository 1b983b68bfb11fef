import { performance } from "node:perf_hooks";

const everyMs = 20;
/** What a turn of the event loop may take. */
const usualMs = 100;

/** Tells how late a timer of this process was, in milliseconds, each time that it had long not got to run. */
export function watchLateness(tell: (ms: number) => void): void {
  let dueMs = performance.now() + everyMs;
  const watch = () => {
    const lateMs = performance.now() - dueMs;
    if (lateMs > usualMs) tell(lateMs);
    dueMs = performance.now() + everyMs;
  };
  setInterval(watch, everyMs).unref();
}
