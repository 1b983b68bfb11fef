import { AsyncResource } from "node:async_hooks";
import type { CancelTask, Clock, ScheduleOptions } from "../../core/clock.js";
import { type Timed, TimeQueue } from "./time-queue.js";

export interface VirtualClockOptions {
  /**
   * First reading of `now`, in milliseconds. It is not 0, so that tests find code that takes 0 for "unset".
   * @defaultValue 1_000_000
   */
  readonly startMs?: number;
  /** First reading of `wallNow`, in milliseconds since the epoch. @defaultValue 1_750_000_000_000 */
  readonly wallStartMs?: number;
}

/** A wait of `pass` or `until`. */
interface Sleeper {
  /** The virtual time at which the wait ends. */
  readonly at: number;
  readonly arrive: () => void;
  readonly fail: (error: unknown) => void;
  /** True for `until`: only a task can still settle its promise. */
  readonly needsEvent: boolean;
}

/** More tasks than this at one time must be tasks that schedule each other without delay. */
const maxTasksPerInstant = 1_000_000;
/** Turns of the event loop without a task after which `until` gives up: some code needs more than one turn. */
const turnsBeforeDeadlock = 4;

/** Runs a task in the async context in which it was scheduled, as timers of Node do. */
function inContext(task: () => void): () => void {
  const resource = new AsyncResource("VirtualTimer", { requireManualDestroy: true });
  return () => resource.runInAsyncScope(task);
}

/**
 * A clock for tests and simulations. Time stands still until `advance`, `pass` or `until` moves it.
 *
 * `advance` is for pure code. If promises or streams take part, use `pass` and `until`: they move time only when no
 * microtask and no nextTick is left, from one scheduled task to the next. They do not wait for immediates, sockets and
 * the thread pool.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/testing.md
 */
export class VirtualClock implements Clock {
  readonly #queue = new TaskQueue();
  readonly #waiters = new Set<Sleeper>();
  readonly #wallStartMs: number;
  readonly #startMs: number;
  #afterPoll: { task: (() => void) | undefined }[] = [];
  #now: number;
  #wallStepMs = 0;
  #driving = false;
  #tasksThisInstant = 0;
  #idleTurns = 0;

  constructor(options: VirtualClockOptions = {}) {
    this.#startMs = options.startMs ?? 1_000_000;
    this.#wallStartMs = options.wallStartMs ?? 1_750_000_000_000;
    this.#now = this.#startMs;
  }

  now(): number {
    return this.#now;
  }

  wallNow(): number {
    return this.#wallStartMs + (this.#now - this.#startMs) + this.#wallStepMs;
  }

  /** Moves the wall clock forward, or back with a negative step, as NTP does. `now` does not change. */
  stepWall(ms: number): void {
    this.#wallStepMs += ms;
  }

  /** The number of tasks that have neither run nor been cancelled. `refs` are those that would keep a process alive. */
  get pending(): { readonly refs: number; readonly unrefs: number } {
    const polls = this.#afterPoll.filter((entry) => entry.task !== undefined).length;
    return { refs: this.#queue.refs + polls, unrefs: this.#queue.unrefs };
  }

  schedule(delayMs: number, task: () => void, options?: ScheduleOptions): CancelTask {
    // NaN and negative delays count as 0, as in setTimeout.
    const at = this.#now + (delayMs > 0 ? delayMs : 0);
    const entry = this.#queue.add(at, options?.ref ?? true, inContext(task));
    return () => this.#queue.cancel(entry);
  }

  /** Runs a task at the current virtual time, after all scheduled tasks that are due at that time. */
  afterPoll(task: () => void): CancelTask {
    const entry: { task: (() => void) | undefined } = { task: inContext(task) };
    this.#afterPoll.push(entry);
    return () => {
      entry.task = undefined;
    };
  }

  /** Moves time by `ms` at once. Due tasks run in the order of their times, also those that other tasks schedule. */
  advance(ms: number): void {
    const target = this.#now + ms;
    for (;;) {
      if (this.#runDue()) continue;
      const next = this.#queue.nextAt();
      if (next > target) break;
      this.#moveTo(next);
    }
    this.#moveTo(target);
  }

  /** Moves time by `ms`, and lets promises and streams settle at each step. */
  pass(ms: number): Promise<void> {
    return new Promise((arrive, fail) => {
      this.#wait({ at: this.#now + ms, needsEvent: false, arrive, fail });
    });
  }

  /**
   * Moves time until the promise settles. Rejects when it has not settled within `limitMs`, and as soon as no task is
   * scheduled that could still settle it.
   */
  until<T>(promise: Promise<T>, limitMs = 10_000): Promise<T> {
    return new Promise((resolve, fail) => {
      const waiter: Sleeper = {
        at: this.#now + limitMs,
        needsEvent: true,
        arrive: () => fail(new Error(`not settled after ${limitMs} ms of virtual time`)),
        fail,
      };
      this.#wait(waiter);
      promise.then(
        (value) => {
          this.#waiters.delete(waiter);
          resolve(value);
        },
        (error: unknown) => {
          this.#waiters.delete(waiter);
          fail(error);
        },
      );
    });
  }

  #wait(waiter: Sleeper): void {
    this.#waiters.add(waiter);
    if (this.#driving) return;
    this.#driving = true;
    this.#idleTurns = 0;
    setImmediate(this.#turn);
  }

  // One loop for all waits, with one step in each turn of the event loop: by then the microtasks and nextTicks of the
  // step before are done. The end of a wait is a step of its own, so that what the waiting code does next happens at
  // that time, even while another wait lasts longer.
  readonly #turn = (): void => {
    if (this.#waiters.size === 0) {
      this.#driving = false;
      return;
    }
    try {
      this.#step();
    } catch (error) {
      this.#release((waiter) => waiter.fail(error));
    }
    setImmediate(this.#turn);
  };

  #step(): void {
    if (this.#runDue()) return;
    let next = Number.POSITIVE_INFINITY;
    let onlyEvents = true;
    let arrived = false;
    for (const waiter of this.#waiters) {
      if (waiter.at <= this.#now) {
        this.#waiters.delete(waiter);
        waiter.arrive();
        arrived = true;
      }
      next = Math.min(next, waiter.at);
      onlyEvents &&= waiter.needsEvent;
    }
    if (arrived) return;
    const due = this.#queue.nextAt();
    if (onlyEvents && due === Number.POSITIVE_INFINITY) {
      this.#idleTurns += 1;
      if (this.#idleTurns < turnsBeforeDeadlock) return;
      const error = new Error("deadlock: the promise is pending and no task is scheduled");
      this.#release((waiter) => waiter.fail(error));
      return;
    }
    this.#moveTo(Math.min(next, due));
    this.#runDue();
  }

  #release(tell: (waiter: Sleeper) => void): void {
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    waiters.forEach(tell);
  }

  /** Runs one due task; tasks of `afterPoll` only when no other is due. False when there was none. */
  #runDue(): boolean {
    const task = this.#queue.nextAt() <= this.#now ? this.#queue.take() : this.#takeAfterPoll();
    if (task === undefined) return false;
    this.#idleTurns = 0;
    this.#tasksThisInstant += 1;
    if (this.#tasksThisInstant > maxTasksPerInstant) {
      throw new Error("virtual time does not move: tasks keep scheduling tasks without delay");
    }
    task();
    return true;
  }

  #takeAfterPoll(): (() => void) | undefined {
    for (;;) {
      const entry = this.#afterPoll.shift();
      if (entry === undefined) return undefined;
      const { task } = entry;
      entry.task = undefined;
      if (task !== undefined) return task;
    }
  }

  #moveTo(time: number): void {
    if (time <= this.#now) return;
    this.#now = time;
    this.#tasksThisInstant = 0;
  }
}

/** A scheduled task. Of two tasks for the same time, the one that was scheduled first runs first. */
interface QueuedTask extends Timed {
  readonly ref: boolean;
  readonly task: () => void;
}

/** Tasks in the order of their times, then of their scheduling. */
class TaskQueue {
  readonly #tasks = new TimeQueue<QueuedTask>();
  #order = 0;
  #refs = 0;

  get refs(): number {
    return this.#refs;
  }

  get unrefs(): number {
    return this.#tasks.size - this.#refs;
  }

  add(at: number, ref: boolean, task: () => void): QueuedTask {
    const entry: QueuedTask = { at, order: this.#order++, place: -1, ref, task };
    if (ref) this.#refs += 1;
    this.#tasks.add(entry);
    return entry;
  }

  /** Does nothing when the task has run or was cancelled before. */
  cancel(entry: QueuedTask): void {
    if (entry.place < 0) return;
    this.#tasks.remove(entry);
    if (entry.ref) this.#refs -= 1;
  }

  /** When the next task is due; `Infinity` when there is none. */
  nextAt(): number {
    return this.#tasks.nextAt;
  }

  /** Removes the next task, whether it is due or not. */
  take(): (() => void) | undefined {
    const { first } = this.#tasks;
    if (first === undefined) return undefined;
    this.cancel(first);
    return first.task;
  }
}
