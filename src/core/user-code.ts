import { type CancelTask, type Clock, type Random, systemClock, systemRandom } from "./clock.js";

/**
 * Every call of a function that a user handed in goes through this module. Such a function may throw, reject, answer
 * with something else than its type says, or with a promise where a value is wanted; none of that may reach the call
 * that it was asked for, and somebody is told of each. A test finds the calls that go another way.
 *
 * What it can not do: a function of the user's may end the very call that it is told of. Whoever goes on after one
 * looks again whether the call is over.
 */

/** A function of the user's that is told about things after they happened. It may be async; nobody waits for it. */
export type Observer<E> = (event: E) => void;

/** Where an error goes that a user's own function threw. */
export type ReportError = (error: unknown, where: string) => void;

/** Turns an answer of a user's function into what was asked for. Throws a TypeError for what is none. */
export type ReadAnswer<T> = (answer: unknown) => T;

/** Tells an observer. A broken observer costs the call nothing: what it throws or rejects with is reported. */
export function notify<E>(
  observer: Observer<E> | undefined,
  event: E,
  report: ReportError,
  where: string,
): void {
  if (observer === undefined) return;
  try {
    const answer: unknown = observer(event);
    if (answer !== undefined) heed(answer, report, where);
  } catch (error) {
    safely(report, error, where);
  }
}

/** Calls something of the user's that is told and not asked. False when it threw. */
export function tell(call: () => unknown, report: ReportError, where: string): boolean {
  try {
    heed(call(), report, where);
    return true;
  } catch (error) {
    safely(report, error, where);
    return false;
  }
}

/** Calls a reporter that may itself be broken. */
export function safely(report: ReportError, error: unknown, where: string): void {
  try {
    const answer: unknown = report(error, where);
    // A reporter that fails has nobody left to tell.
    if (isPromiseLike(answer)) adopt(answer).catch(() => {});
  } catch {
    // Likewise.
  }
}

/** The reporter for those who handed none in: a warning of the process. */
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
 * Asks a function of the user's that answers at once. When it throws, or answers with a promise or with something that
 * `read` does not take, that is reported, and `otherwise` is the answer.
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
    safely(report, error, where);
    return otherwise;
  }
}

/** The same for a function of one thing, made once for all the times that it is asked. */
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
      safely(report, error, where);
      return otherwise(about);
    }
  };
}

/**
 * Asks a function of the user's that may answer with a promise: that is one of ours then.
 *
 * @throws what the function throws.
 */
export function given<T>(question: () => T | PromiseLike<T>): T | Promise<T> {
  return known(question());
}

/** The same for work that is given a signal. Work that declares no parameter is called without one. */
export function begun<T>(
  work: (signal: AbortSignal) => T | PromiseLike<T>,
  signal: () => AbortSignal,
): T | Promise<T> {
  return known(work.length === 0 ? (work as () => T | PromiseLike<T>)() : work(signal()));
}

/** @throws what the answer throws when it is asked for its `then`. */
function known<T>(answer: T | PromiseLike<T>): T | Promise<T> {
  if (isPlainPromise(answer)) return answer;
  return isPromiseLike(answer) ? adopt(answer) : answer;
}

/**
 * Asks a function of the user's that may answer with a promise. Tells what it answers, or what it throws or rejects
 * with: at once when that is known at once, and else in a turn of its own, so that what a listener throws is not taken
 * for the user's.
 */
export function whenKnown<T>(
  question: () => T | PromiseLike<T>,
  told: (answer: T) => void,
  failed: (error: unknown) => void,
): void {
  let answer: T | Promise<T>;
  try {
    answer = given(question);
    // Within: what only looks like a promise throws here.
    if (answer instanceof Promise) {
      answer.then(
        (value) => queueMicrotask(() => told(value)),
        (error: unknown) => queueMicrotask(() => failed(error)),
      );
      return;
    }
  } catch (error) {
    failed(error);
    return;
  }
  told(answer);
}

/**
 * Tells what is known at once from what is promised, whoever's promises they are: of another realm, of a library, and
 * proxies of them. It asks as `await` does, for a `then`.
 *
 * @throws what the object throws that is asked.
 *
 * @internal Exported for its tests.
 */
export function isPromiseLike<T>(answer: T | PromiseLike<T>): answer is PromiseLike<T> {
  if ((typeof answer !== "object" || answer === null) && typeof answer !== "function") return false;
  const { then }: { readonly then?: unknown } = answer;
  return typeof then === "function";
}

/**
 * A promise of ours for one of somebody else's, whose `then` may throw, call back twice, or return nothing.
 *
 * @internal Exported for its tests.
 */
export function adopt<T>(answer: PromiseLike<T>): Promise<T> {
  return new Promise((resolve) => {
    resolve(answer);
  });
}

/**
 * A promise of Node's own, as plain as `async` makes them. It is taken as it is, because adopting it would cost turns; all
 * others are adopted.
 */
function isPlainPromise<T>(answer: T | PromiseLike<T>): answer is Promise<T> {
  return (
    answer instanceof Promise &&
    answer.constructor === Promise &&
    answer.then === Promise.prototype.then
  );
}

/** Reports what an answer nobody waits for rejects with. */
function heed(answer: unknown, report: ReportError, where: string): void {
  if (!isPromiseLike(answer)) return;
  adopt(answer).catch((error: unknown) => safely(report, error, where));
}

/** @throws TypeError for a promise. What that rejects with has been told by this. */
function atOnce(answer: unknown): unknown {
  if (!isPromiseLike(answer)) return answer;
  adopt(answer).catch(() => {});
  throw new TypeError("it answered with a promise, and is not awaited");
}

/** Reads the answer of a predicate. What is falsy is false; what else is no boolean is no answer. */
export function yesOrNo(answer: unknown): boolean {
  if (typeof answer === "boolean") return answer;
  if (!answer) return false;
  throw new TypeError(`it must answer true or false, got ${shown(answer)}`);
}

/** Reads the answer of a predicate that may have none. */
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

/** Reads a key; `undefined` for none. Only what is told apart by its text is one. */
export function keyText(answer: unknown): string | undefined {
  if (typeof answer === "string") return answer;
  if (answer === undefined || answer === null) return undefined;
  if (typeof answer === "number" || typeof answer === "boolean" || typeof answer === "bigint") {
    return String(answer);
  }
  throw new TypeError(`a key must be a string, got ${shown(answer)}`);
}

/** Something for an error message, whatever it is. */
export function shown(answer: unknown): string {
  if (typeof answer === "string") return JSON.stringify(answer.slice(0, 80));
  if (typeof answer === "object" && answer !== null) return "an object";
  return typeof answer === "function" ? "a function" : String(answer);
}

/**
 * A clock of the user's, of which the first mistake of each kind is reported: a reading that is no number is the one
 * before, and what can not be scheduled with it is scheduled with the system's. A task runs once, and never inside the
 * call that schedules it.
 */
export function userClock(clock: Clock, report: ReportError): Clock {
  // One for each clock, and one of them as it is: who shares a clock shares what is kept by it.
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
      tell(cancel, complain, "clock");
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

/** The largest number below 1 that a draw can be. */
const almostOne = 1 - 2 ** -53;

/** Chance of the user's: a draw that is not from 0 to below 1 is brought there, or is the system's. */
export function userRandom(random: Random, report: ReportError): Random {
  const complain = once(report, "random");
  return () => {
    const drawn = ask(random, finite, undefined, complain, "random") ?? systemRandom();
    if (drawn >= 0 && drawn < 1) return drawn;
    complain(new RangeError(`a draw is from 0 to below 1, got ${drawn}`), "random");
    return drawn < 0 ? 0 : almostOne;
  };
}

/** They are asked all the time: the first mistake is told. */
function once(report: ReportError, where: string): ReportError {
  let told = false;
  return (error) => {
    if (told) return;
    told = true;
    safely(report, error, where);
  };
}
