import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { expireAt, heldUp, systemClock } from "../../src/core/clock.js";
import { BusyClock } from "./busy-clock.js";

const day = 24 * 3_600_000;

describe("the clock of the process", () => {
  beforeEach(() => {
    vi.useFakeTimers({
      toFake: [
        "setTimeout",
        "clearTimeout",
        "setImmediate",
        "clearImmediate",
        "performance",
        "Date",
      ],
    });
  });
  afterEach(() => vi.useRealTimers());

  it("reads time since the epoch, and beside it a time that nobody sets", () => {
    const [nowMs, wallMs] = [systemClock.now(), systemClock.wallNow()];
    expect(wallMs).toBe(Date.now());
    vi.advanceTimersByTime(250);
    expect([systemClock.now() - nowMs, systemClock.wallNow() - wallMs]).toEqual([250, 250]);
    vi.setSystemTime(wallMs - day);
    expect([systemClock.now() - nowMs, systemClock.wallNow() - wallMs]).toEqual([250, -day]);
  });

  it.each([1, 1_000, 2 ** 31 - 1, 2 ** 31, 30 * day, 100 * day])(
    "runs a task once, after %i ms and not before",
    (delayMs) => {
      const task = vi.fn();
      systemClock.schedule(delayMs, task);
      expect(task).not.toHaveBeenCalled();
      vi.advanceTimersByTime(delayMs - 1);
      expect(task).not.toHaveBeenCalled();
      vi.advanceTimersByTime(1);
      expect(task).toHaveBeenCalledTimes(1);
      vi.advanceTimersByTime(200 * day);
      expect(task).toHaveBeenCalledTimes(1);
      expect(vi.getTimerCount()).toBe(0);
    },
  );

  it("runs a task that is due at once behind the code that schedules it", () => {
    const order: string[] = [];
    systemClock.schedule(0, () => order.push("task"));
    order.push("code");
    vi.advanceTimersByTime(1);
    expect(order).toEqual(["code", "task"]);
  });

  it.each([0, 30 * day])(
    "runs no task that is cancelled, here after %i ms of 60 days",
    (afterMs) => {
      const task = vi.fn();
      const cancel = systemClock.schedule(60 * day, task);
      vi.advanceTimersByTime(afterMs);
      cancel();
      cancel();
      expect(vi.getTimerCount()).toBe(0);
      vi.advanceTimersByTime(100 * day);
      expect(task).not.toHaveBeenCalled();
    },
  );

  it("runs a task after the next poll, unless it is cancelled", () => {
    const [task, cancelled] = [vi.fn(), vi.fn()];
    systemClock.afterPoll(task);
    systemClock.afterPoll(cancelled)();
    expect(task).not.toHaveBeenCalled();
    vi.advanceTimersByTime(0);
    expect(task).toHaveBeenCalledTimes(1);
    expect(cancelled).not.toHaveBeenCalled();
  });
});

describe("a timer of the clock of the process", () => {
  it.each([
    [undefined, true],
    [{ ref: true }, true],
    [{ ref: false }, false],
  ])("scheduled with %o keeps the process alive: %s", (options, keeps) => {
    const timers = vi.spyOn(globalThis, "setTimeout");
    try {
      // The second is one of several timers in a row.
      for (const delayMs of [1_000, 60 * day]) {
        const cancel = systemClock.schedule(delayMs, () => {}, options);
        const made = timers.mock.results.at(-1)?.value as NodeJS.Timeout;
        expect(made.hasRef()).toBe(keeps);
        cancel();
      }
    } finally {
      timers.mockRestore();
    }
  });
});

describe("a time that is up", () => {
  it("is told after the sockets have been read, with how late its timer was", () => {
    const clock = new BusyClock();
    clock.busy(1_000);
    const lateMs: number[] = [];
    expireAt(clock, 1_100, 100, (late) => lateMs.push(late));
    clock.busy(130);
    clock.turn(() => expect(lateMs).toEqual([]));
    expect(lateMs).toEqual([30]);
  });

  it("is not told when what was waited for has just arrived", () => {
    const clock = new BusyClock();
    const cancel = expireAt(clock, 100, 100, () => expect.unreachable());
    clock.busy(100);
    clock.turn(cancel);
    expect(clock.pending).toBe(0);
  });

  it("says nothing about the other side where its timer was more than 20 ms late", () => {
    expect([0, 20, 20.1].map(heldUp)).toEqual([false, false, true]);
  });
});
