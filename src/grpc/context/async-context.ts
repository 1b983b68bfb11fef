import { AsyncResource } from "node:async_hooks";
import type { Clock } from "../../core/clock.js";

/** Runs a function in the async context that was current when this was captured. */
export type RestoreContext = <A extends unknown[], R>(fn: (...args: A) => R, ...args: A) => R;

/**
 * Captures the async context of the caller. grpc-js runs the callbacks of a call in whatever context
 * opened the connection, so one request would see another's AsyncLocalStorage values; everything
 * that leaves the toolkit towards the caller, and everything it starts later on the caller's
 * behalf, runs through the captured context.
 */
export function captureContext(): RestoreContext {
  // Not AsyncLocalStorage.snapshot(): on Node 20 that costs some 40 µs, a good part of a whole call.
  const scope = new AsyncResource("grpc-weir.call", { requireManualDestroy: true });
  return (fn, ...args) => scope.runInAsyncScope(fn, undefined, ...args);
}

/**
 * Runs a function in no call's context. What lives longer than a call and begins in one, such as a timer for all calls,
 * would hold it and all that it refers to.
 */
export const outside: RestoreContext = captureContext();

/** The same clock, whose timers belong to no call. */
export function outsideClock(clock: Clock): Clock {
  return {
    now: () => clock.now(),
    wallNow: () => clock.wallNow(),
    schedule: (...args) => outside(() => clock.schedule(...args)),
    afterPoll: (task) => outside(() => clock.afterPoll(task)),
  };
}
