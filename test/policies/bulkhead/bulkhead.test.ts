import { describe, expect, it, vi } from "vitest";
import type { Clock } from "../../../src/core/clock.js";
import { InvalidOptionError } from "../../../src/core/options.js";
import type { WaitResult } from "../../../src/core/permit.js";
import {
  Bulkhead,
  type BulkheadOptions,
  resolveBulkheadOptions,
  resolveSharing,
} from "../../../src/policies/bulkhead/bulkhead.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { BusyClock } from "../../core/busy-clock.js";
import { fateOf, permitOf, queuedOf } from "../../core/turns.js";

/** A waiting call, and what it was told. */
function waiterIn(bulkhead: Bulkhead, rank = 0, deadlineMs = Infinity) {
  const turns: WaitResult[] = [];
  const waits: number[] = [];
  const entry = bulkhead.enter(rank, deadlineMs, (turn, waitedMs) => {
    turns.push(turn);
    waits.push(waitedMs);
  });
  return { entry, turns, waits };
}

function setup(options: BulkheadOptions = {}) {
  const clock = new VirtualClock();
  const errors: unknown[] = [];
  const bulkhead = new Bulkhead(
    resolveBulkheadOptions({ maxConcurrent: 1, ...options }),
    clock,
    (error) => errors.push(error),
  );
  const enter = (rank?: number, withinMs = Infinity) =>
    waiterIn(bulkhead, rank, clock.now() + withinMs);
  return { clock, bulkhead, enter, errors };
}

describe("a bulkhead with room", () => {
  it("admits at once, without a timer, and takes each permit back exactly once", () => {
    const { clock, bulkhead, enter } = setup({ maxConcurrent: 2 });
    const first = permitOf(enter().entry);
    permitOf(enter().entry);
    expect(bulkhead.snapshot()).toMatchObject({ running: 2, queued: 0, admitted: 2 });
    expect(bulkhead.snapshot()).not.toHaveProperty("partitions");
    first.settle("success");
    first.settle("failure");
    expect(bulkhead.snapshot().running).toBe(1);
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("reads no clock for a call without a deadline", () => {
    let readings = 0;
    const own = new VirtualClock();
    const clock: Clock = {
      now: () => {
        readings += 1;
        return own.now();
      },
      wallNow: () => own.wallNow(),
      schedule: (...args) => own.schedule(...args),
      afterPoll: (task) => own.afterPoll(task),
    };
    const bulkhead = new Bulkhead(resolveBulkheadOptions({}), clock);
    permitOf(waiterIn(bulkhead).entry).settle("success");
    expect(readings).toBe(0);
    permitOf(waiterIn(bulkhead, 0, own.now() + 1_000).entry);
    expect(readings).toBe(1);
  });

  it("is in use while a call runs", () => {
    const { bulkhead, enter } = setup();
    expect(bulkhead.inUse).toBe(false);
    const running = permitOf(enter().entry);
    expect(bulkhead.inUse).toBe(true);
    const next = enter();
    running.settle("success");
    expect(bulkhead.inUse).toBe(true);
    permitOf(next.turns[0]).settle("success");
    expect(bulkhead.inUse).toBe(false);
  });

  it.each([-1, 0])("refuses a call whose deadline is %i ms away", (withinMs) => {
    const { bulkhead, enter } = setup();
    expect(fateOf(enter(0, withinMs).entry)).toBe("DEADLINE_EXPIRED");
    expect(bulkhead.snapshot()).toMatchObject({ running: 0, refused: 1 });
  });
});

describe("a bulkhead without room", () => {
  it("lets calls wait, and gives a settled permit to the best and oldest of them", () => {
    const { clock, enter } = setup();
    const running = permitOf(enter().entry);
    const normal = enter(2);
    const high = enter(1);
    const secondHigh = enter(1);
    clock.advance(30);
    running.settle("success");
    expect(high.turns).toHaveLength(1);
    expect(high.waits).toEqual([30]);
    clock.advance(10);
    for (const { turns } of [high, secondHigh, normal]) {
      const [turn] = turns;
      if (turn === undefined) throw new Error("no turn");
      permitOf(turn).settle("failure");
    }
    expect(normal.waits).toEqual([40]);
    expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
  });

  it("refuses with the numbers when its queue is full too", () => {
    const { enter } = setup({ maxQueued: 1 });
    enter();
    enter();
    expect(enter().entry).toEqual({
      kind: "refusal",
      reason: "BULKHEAD_FULL",
      detail: "running 1 of 1, queued 1 of 1",
    });
  });

  it.each([{ maxQueued: 0 }, { maxWaitMs: 0 }])("has no queue with %o", (options) => {
    const { enter, clock } = setup(options);
    enter();
    expect(fateOf(enter().entry)).toBe("BULKHEAD_FULL");
    expect(clock.pending.refs).toBe(0);
  });

  it("keeps the process alive for a waiting call with one timer", () => {
    const { clock, enter } = setup();
    enter();
    enter();
    expect(clock.pending).toEqual({ refs: 1, unrefs: 0 });
  });

  it("refuses with QUEUE_TIMEOUT after maxWaitMs, and not before", () => {
    const { clock, bulkhead, enter } = setup({ maxWaitMs: 50 });
    enter();
    const waiting = enter(0, 1_000);
    clock.advance(49);
    expect(waiting.turns).toEqual([]);
    clock.advance(1);
    expect(waiting.turns.map(fateOf)).toEqual(["QUEUE_TIMEOUT"]);
    expect(waiting.waits).toEqual([50]);
    expect(bulkhead.snapshot()).toMatchObject({ queued: 0, refused: 1, admitted: 1 });
  });

  it.each([10, 50])("refuses with DEADLINE_EXPIRED at a deadline of %i ms", (withinMs) => {
    const { clock, enter } = setup({ maxWaitMs: 50 });
    enter();
    const waiting = enter(0, withinMs);
    clock.advance(50);
    expect(waiting.turns.map(fateOf)).toEqual(["DEADLINE_EXPIRED"]);
    expect(waiting.waits).toEqual([withinMs]);
  });

  it("forgets a call that leaves, and gives it no turn", () => {
    const { clock, bulkhead, enter } = setup();
    const running = permitOf(enter().entry);
    const waiting = enter();
    expect(queuedOf(waiting.entry).leave()).toBe(true);
    expect(queuedOf(waiting.entry).leave()).toBe(false);
    expect(clock.pending.refs).toBe(0);
    running.settle("success");
    clock.advance(1_000);
    expect(waiting.turns).toEqual([]);
    expect(bulkhead.snapshot()).toMatchObject({ running: 0, queued: 0, left: 1, refused: 0 });
  });

  it("does not let a call leave whose turn has come", () => {
    const { bulkhead, enter } = setup();
    const running = permitOf(enter().entry);
    const waiting = enter();
    running.settle("success");
    expect(queuedOf(waiting.entry).leave()).toBe(false);
    expect(bulkhead.snapshot()).toMatchObject({ running: 1, left: 0 });
  });
});

describe("a bulkhead whose caller throws from onGranted", () => {
  it("takes the permit back, serves the next, and reports", () => {
    const { bulkhead, enter, errors } = setup();
    const running = permitOf(enter().entry);
    const broken = new Error("broken");
    bulkhead.enter(0, Infinity, () => {
      throw broken;
    });
    const next = enter();
    running.settle("success");
    expect(next.turns).toHaveLength(1);
    expect(errors).toEqual([broken]);
    expect(bulkhead.snapshot()).toMatchObject({ running: 1, queued: 0 });
  });

  it("warns where nobody listens, and throws out of no timer", () => {
    const warned = vi.spyOn(process, "emitWarning").mockImplementation(() => {});
    const clock = new VirtualClock();
    const bulkhead = new Bulkhead(resolveBulkheadOptions({ maxConcurrent: 1 }), clock);
    const running = permitOf(waiterIn(bulkhead).entry);
    bulkhead.enter(0, Infinity, () => {
      throw new Error("broken");
    });
    running.settle("success");
    clock.advance(0);
    expect(warned.mock.calls).toEqual([
      [expect.stringContaining("onGranted threw: Error: broken"), { type: "GrpcWeirWarning" }],
    ]);
    warned.mockRestore();
  });
});

describe("a bulkhead in a busy process", () => {
  const busySetup = () => {
    const clock = new BusyClock();
    const bulkhead = new Bulkhead(
      resolveBulkheadOptions({ maxConcurrent: 1, maxWaitMs: 100 }),
      clock,
    );
    const running = permitOf(waiterIn(bulkhead).entry);
    return { clock, bulkhead, running };
  };

  it("reads the answers that have arrived before it says that a call has waited too long", () => {
    const { clock, bulkhead, running } = busySetup();
    const waiting = waiterIn(bulkhead);
    clock.busy(300);
    clock.turn(() => running.settle("success"));
    expect(waiting.turns.map(fateOf)).toEqual(["admitted"]);
    expect(waiting.waits).toEqual([300]);
    expect(clock.pending).toBe(0);
  });

  it("says so in the same turn when none of them frees a permit", () => {
    const { clock, bulkhead } = busySetup();
    const waiting = waiterIn(bulkhead);
    clock.busy(300);
    clock.turn();
    expect(waiting.turns.map(fateOf)).toEqual(["QUEUE_TIMEOUT"]);
  });

  it("lets a call leave between its late timer and the verdict", () => {
    const { clock, bulkhead } = busySetup();
    const waiting = waiterIn(bulkhead);
    clock.busy(300);
    clock.turn(() => queuedOf(waiting.entry).leave());
    expect(waiting.turns).toEqual([]);
    expect(clock.pending).toBe(0);
  });

  it("gives a permit to the next, when the deadline of the first has passed unnoticed", () => {
    const { clock, bulkhead, running } = busySetup();
    const expired = waiterIn(bulkhead, 0, 50);
    const next = waiterIn(bulkhead, 1);
    clock.busy(60);
    running.settle("success");
    expect(expired.turns.map(fateOf)).toEqual(["DEADLINE_EXPIRED"]);
    expect(next.turns.map(fateOf)).toEqual(["admitted"]);
    expect(bulkhead.snapshot()).toMatchObject({ running: 1, queued: 0, refused: 1 });
  });

  it.each([80, 100])("names the deadline of %i ms although its timer runs early", (deadlineMs) => {
    const { clock, bulkhead } = busySetup();
    const waiting = waiterIn(bulkhead, 0, deadlineMs);
    clock.busy(deadlineMs - 0.4);
    clock.turn();
    expect(waiting.turns.map(fateOf)).toEqual(["DEADLINE_EXPIRED"]);
  });

  it("names the deadline when that has passed too by the time the wait is over", () => {
    const { clock, bulkhead } = busySetup();
    const waiting = waiterIn(bulkhead, 0, 110);
    clock.busy(115);
    clock.turn();
    expect(waiting.turns.map(fateOf)).toEqual(["DEADLINE_EXPIRED"]);
  });
});

describe("a closed bulkhead", () => {
  it("refuses those who wait and those who come, and still takes permits back", () => {
    const { clock, bulkhead, enter } = setup();
    const running = permitOf(enter().entry);
    const waiting = [enter(), enter()];
    bulkhead.close();
    expect(waiting.map(({ turns }) => turns.map(fateOf))).toEqual([["CLOSED"], ["CLOSED"]]);
    expect(fateOf(enter().entry)).toBe("CLOSED");
    running.settle("ignored");
    expect(bulkhead.snapshot()).toMatchObject({ running: 0, queued: 0, refused: 3 });
    expect(clock.pending.refs).toBe(0);
  });
});

describe("bulkhead options", () => {
  it("have defaults", () => {
    expect(resolveBulkheadOptions({})).toEqual({
      maxConcurrent: 100,
      maxQueued: 100,
      maxWaitMs: 100,
      maxWaitShare: 1 / 3,
    });
  });

  it.each([
    [{ maxConcurrent: 0 }, "bulkhead.maxConcurrent must be a whole number of at least 1, got 0"],
    [{ maxQueued: -1 }, "bulkhead.maxQueued must be a whole number of at least 0, got -1"],
    [{ maxQueued: 1.5 }, "bulkhead.maxQueued must be a whole number of at least 0, got 1.5"],
    [{ maxWaitMs: Number.NaN }, "bulkhead.maxWaitMs must be milliseconds from 0 to"],
    [{ maxConcurent: 5 }, "bulkhead.maxConcurent is not an option"],
  ])("refuse %o", (options, message) => {
    const resolve = () => resolveBulkheadOptions(options as BulkheadOptions);
    expect(resolve).toThrow(InvalidOptionError);
    expect(resolve).toThrow(message);
  });

  it("name the place they were given in", () => {
    expect(() => resolveBulkheadOptions({ maxQueued: -1 }, "methods.List.bulkhead")).toThrow(
      "methods.List.bulkhead.maxQueued",
    );
  });
});

it("a bulkhead lets calls wait for a millisecond, and for none", () => {
  const fates = [1, 0].map((maxWaitMs) => {
    const { enter } = setup({ maxWaitMs });
    enter();
    return fateOf(enter().entry);
  });
  expect(fates).toEqual(["queued", "BULKHEAD_FULL"]);
});

describe("how calls share a bulkhead", () => {
  const partition = () => "batch";
  const partitions = { batch: { share: 0.5 } };

  it("takes partitions with the function that names them, or neither", () => {
    expect(resolveSharing({ partitions, partition, weight: undefined }, 4, "it")).toMatchObject({
      hooks: { partition },
    });
    expect(
      resolveSharing({ partitions: undefined, partition: undefined, weight: undefined }, 4, "it")
        .hooks,
    ).toEqual({});
  });

  it.each([
    [{ partitions, partition: undefined }, "it.partition must be given with partitions"],
    [{ partitions: undefined, partition }, "it.partitions must be given with partition"],
  ])("refuses one without the other: %o", (given, message) => {
    const build = () => resolveSharing({ ...given, weight: undefined }, 4, "it");
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(message);
  });
});
