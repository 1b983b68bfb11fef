import { AsyncResource } from "node:async_hooks";
import type { Clock } from "../../core/clock.js";

/** Runs a function in the async context that was current when this was captured. */
export type RestoreContext = <A extends unknown[], R>(fn: (...args: A) => R, ...args: A) => R;

/**
 * Captures the async context of the caller. grpc-js runs the callbacks of a call in the context in which the connection
 * was opened, so that one request would see the AsyncLocalStorage values of another. The toolkit runs the caller's
 * callbacks, and whatever it starts later for the call, in the captured context.
 */
export function captureContext(): RestoreContext {
  const scope = captureScope();
  return (fn, ...args) => scope.runInAsyncScope(fn, undefined, ...args);
}

/** The same, without a function of its own. */
export function captureScope(): AsyncResource {
  // AsyncLocalStorage.snapshot() would cost about 40 µs on Node 20, as much as a whole call.
  return new AsyncResource("grpc-weir.call", scopeOptions);
}

const scopeOptions = { requireManualDestroy: true } as const;

/**
 * Runs a function in the context of no call. For what is started during a call and lives longer, such as a timer for
 * all calls: it would keep the call's context in memory.
 */
export const outside: RestoreContext = captureContext();

/** The same clock, with timers that run in the context of no call. */
export function outsideClock(clock: Clock): Clock {
  return {
    now: () => clock.now(),
    wallNow: () => clock.wallNow(),
    schedule: (...args) => outside(() => clock.schedule(...args)),
    afterPoll: (task) => outside(() => clock.afterPoll(task)),
  };
}
