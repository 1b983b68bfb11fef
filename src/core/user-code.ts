import { type CancelTask, type Clock, type Random, systemClock, systemRandom } from "./clock.js";
import { shown } from "./options.js";

/**
 * Every call of a user's function goes through this module. Such a function may throw, reject, return something that its
 * type does not allow, or return a promise where a value is expected. None of that may harm the call that it was called
 * for, and all of it is reported. A test finds calls of user functions that do not go through here.
 *
 * A user's function may also end the very call that it was called for. Code that goes on after one checks that.
 */

/** A user's function that is called after something happened. It may be async; nothing waits for it. */
export type Observer<E> = (event: E) => void;

/** Told of errors that a user's function threw or rejected with. `where` names the function. */
export type ReportError = (error: unknown, where: string) => void;

/** Checks what a user's function returned. Throws a `TypeError` when it is not what was asked for. */
export type ReadAnswer<T> = (answer: unknown) => T;

/** Calls an observer. What it throws or rejects with is reported, and nothing else happens. */
export function notify<E>(
  observer: Observer<E> | undefined,
  event: E,
  report: ReportError,
  where: string,
): void {
  if (observer === undefined) return;
  try {
    const answer: unknown = observer(event);
    if (answer !== undefined) reportRejection(answer, report, where);
  } catch (error) {
    reportSafely(report, error, where);
  }
}

/** Calls a user's function whose result is not used. False when it threw. */
export function callSafely(call: () => unknown, report: ReportError, where: string): boolean {
  try {
    reportRejection(call(), report, where);
    return true;
  } catch (error) {
    reportSafely(report, error, where);
    return false;
  }
}

/** Calls a reporter, which may itself throw or reject. */
export function reportSafely(report: ReportError, error: unknown, where: string): void {
  try {
    const answer: unknown = report(error, where);
    // There is nobody left to report to.
    if (isPromiseLike(answer)) adopt(answer).catch(() => {});
  } catch {
    // As above.
  }
}

/** The default reporter: a warning of the process. */
export function warn(error: unknown, where: string): void {
  process.emitWarning(`${where} threw: ${textOf(error)}`, { type: "GrpcWeirWarning" });
}

function textOf(error: unknown): string {
  try {
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  } catch {
    return "something that cannot be shown";
  }
}

/**
 * Calls a user's function that returns a value. When it throws, returns a promise, or returns something that `read` throws
 * for, that is reported and the result is `otherwise`.
 */
export function ask<T, F = T>(
  question: () => unknown,
  read: ReadAnswer<T>,
  otherwise: F,
  report: ReportError,
  where: string,
): T | F {
  try {
    return read(atOnce(question()));
  } catch (error) {
    reportSafely(report, error, where);
    return otherwise;
  }
}

/** The same as a function of one argument, for what is called many times. */
export function asking<C, T, F>(
  question: (about: C) => unknown,
  read: ReadAnswer<T>,
  otherwise: (about: C) => F,
  report: ReportError,
  where: string,
): (about: C) => T | F {
  return (about) => {
    try {
      return read(atOnce(question(about)));
    } catch (error) {
      reportSafely(report, error, where);
      return otherwise(about);
    }
  };
}

/**
 * Calls a user's function that may return a promise. A foreign promise is adopted by one of Node's.
 *
 * @throws what the function throws.
 */
export function answerOf<T>(question: () => T | PromiseLike<T>): T | Promise<T> {
  return asPromise(question());
}

/** The same for work that gets an `AbortSignal`. Work that declares no parameter is called without one. */
export function startWork<T>(
  work: (signal: AbortSignal) => T | PromiseLike<T>,
  signal: () => AbortSignal,
): T | Promise<T> {
  return asPromise(work.length === 0 ? (work as () => T | PromiseLike<T>)() : work(signal()));
}

/** @throws what the answer throws when its `then` is read. */
function asPromise<T>(answer: T | PromiseLike<T>): T | Promise<T> {
  if (isPlainPromise(answer)) return answer;
  return isPromiseLike(answer) ? adopt(answer) : answer;
}

/**
 * Calls a user's function that may return a promise, and calls `onValue` with the value or `onError` with the error. Both are
 * called at once where the result is known at once, and otherwise from a microtask of their own, so that what they throw is
 * not taken for an error of the user's function.
 */
export function whenKnown<T>(
  question: () => T | PromiseLike<T>,
  onValue: (answer: T) => void,
  onError: (error: unknown) => void,
): void {
  let answer: T | Promise<T>;
  try {
    answer = answerOf(question);
    // Inside the `try`: what only looks like a promise may throw here.
    if (answer instanceof Promise) {
      answer.then(
        (value) => queueMicrotask(() => onValue(value)),
        (error: unknown) => queueMicrotask(() => onError(error)),
      );
      return;
    }
  } catch (error) {
    onError(error);
    return;
  }
  onValue(answer);
}

/**
 * Whether a value is a promise, of Node, another realm or a library. Decides by `then`, as `await` does.
 *
 * @throws what the value throws when its `then` is read.
 *
 * @internal Exported for its tests.
 */
export function isPromiseLike<T>(answer: T | PromiseLike<T>): answer is PromiseLike<T> {
  if ((typeof answer !== "object" || answer === null) && typeof answer !== "function") return false;
  const { then }: { readonly then?: unknown } = answer;
  return typeof then === "function";
}

/**
 * A promise of Node's for a foreign one, whose `then` may throw, call back twice, or return nothing.
 *
 * @internal Exported for its tests.
 */
export function adopt<T>(answer: PromiseLike<T>): Promise<T> {
  return new Promise((resolve) => {
    resolve(answer);
  });
}

/** A promise of Node's, as `async` functions return them. It is used as it is, because adopting it costs microtasks. */
function isPlainPromise<T>(answer: T | PromiseLike<T>): answer is Promise<T> {
  return (
    answer instanceof Promise &&
    answer.constructor === Promise &&
    answer.then === Promise.prototype.then
  );
}

/** Reports the rejection of a promise that nothing waits for. */
function reportRejection(answer: unknown, report: ReportError, where: string): void {
  if (!isPromiseLike(answer)) return;
  adopt(answer).catch((error: unknown) => reportSafely(report, error, where));
}

/** @throws TypeError for a promise. A rejection of it is ignored: the error says enough. */
function atOnce(answer: unknown): unknown {
  if (!isPromiseLike(answer)) return answer;
  adopt(answer).catch(() => {});
  throw new TypeError("it answered with a promise, and is not awaited");
}

/** Reads a boolean. Anything falsy is false. */
export function yesOrNo(answer: unknown): boolean {
  if (typeof answer === "boolean") return answer;
  if (!answer) return false;
  throw new TypeError(`it must answer true or false, got ${shown(answer)}`);
}

/** Reads a boolean that may be absent. */
export function yesNoOrNothing(answer: unknown): boolean | undefined {
  if (typeof answer === "boolean") return answer;
  if (answer === undefined || answer === null) return undefined;
  throw new TypeError(`it must answer true, false or undefined, got ${shown(answer)}`);
}

/** Reads a finite number. */
export function finite(answer: unknown): number {
  if (typeof answer === "number" && Number.isFinite(answer)) return answer;
  throw new TypeError(`it must answer a number, got ${shown(answer)}`);
}

/** Reads a number and brings it into 0 to 1. */
export function share(answer: unknown): number {
  return Math.min(1, Math.max(0, finite(answer)));
}

/** Reads a key; `undefined` for none. Strings, numbers, booleans and bigints are keys. */
export function keyText(answer: unknown): string | undefined {
  if (typeof answer === "string") return answer;
  if (answer === undefined || answer === null) return undefined;
  if (typeof answer === "number" || typeof answer === "boolean" || typeof answer === "bigint") {
    return String(answer);
  }
  throw new TypeError(`a key must be a string, got ${shown(answer)}`);
}

/**
 * Makes a user's clock safe. The first mistake is reported. A reading that is not a number is replaced by the one before; a
 * task that it fails to schedule is scheduled with the system's clock. A task runs once, and never inside the call that
 * schedules it.
 */
export function userClock(clock: Clock, report: ReportError): Clock {
  // The same safe clock for the same clock: state that is shared by clock stays shared.
  const present = clock === systemClock ? clock : safeClocks.get(clock);
  if (present !== undefined) return present;
  const made = safeClock(clock, report);
  safeClocks.set(clock, made);
  safeClocks.set(made, made);
  return made;
}

const safeClocks = new WeakMap<Clock, Clock>();

function safeClock(clock: Clock, report: ReportError): Clock {
  const complain = once(report, "clock");
  const reading = (read: () => number): (() => number) => {
    let last = 0;
    return () => {
      const ms = ask(read, finite, undefined, complain, "clock");
      if (ms !== undefined) last = ms;
      return last;
    };
  };
  const planned = (plan: (clock: Clock, task: () => void) => CancelTask, task: () => void) => {
    let open = true;
    let inside = true;
    const run = () => {
      if (!open) return;
      if (inside) {
        queueMicrotask(run);
        return;
      }
      open = false;
      task();
    };
    const own = () => plan(clock, run);
    const cancel = ask(own, cancelling, undefined, complain, "clock") ?? plan(systemClock, run);
    inside = false;
    return () => {
      if (!open) return;
      open = false;
      callSafely(cancel, complain, "clock");
    };
  };
  return {
    now: reading(() => clock.now()),
    wallNow: reading(() => clock.wallNow()),
    schedule: (delayMs, task, options) =>
      planned((by, run) => by.schedule(delayMs, run, options), task),
    afterPoll: (task) => planned((by, run) => by.afterPoll(run), task),
  };
}

function cancelling(answer: unknown): CancelTask {
  if (typeof answer !== "function") throw new TypeError(`it gave no way to cancel a task`);
  return () => answer();
}

/** The largest number below 1. */
const almostOne = 1 - 2 ** -53;

/** Makes a user's random source safe: a draw outside of 0 to below 1 is moved there, and a failed one is the system's. */
export function userRandom(random: Random, report: ReportError): Random {
  const complain = once(report, "random");
  return () => {
    const drawn = ask(random, finite, undefined, complain, "random") ?? systemRandom();
    if (drawn >= 0 && drawn < 1) return drawn;
    complain(new RangeError(`a draw is from 0 to below 1, got ${drawn}`), "random");
    return drawn < 0 ? 0 : almostOne;
  };
}

/** Reports the first error only: clocks and random sources are used all the time. */
function once(report: ReportError, where: string): ReportError {
  let told = false;
  return (error) => {
    if (told) return;
    told = true;
    reportSafely(report, error, where);
  };
}
