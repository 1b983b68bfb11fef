import { AsyncLocalStorage } from "node:async_hooks";
import { expect, it } from "vitest";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";

it("runs tasks in the order of their times, and those for the same time as they were scheduled", () => {
  const clock = new VirtualClock();
  const ran: string[] = [];
  clock.schedule(20, () => ran.push("c"));
  clock.schedule(10, () => ran.push("a"));
  clock.schedule(10, () => ran.push("b"));
  clock.advance(20);
  expect(ran).toEqual(["a", "b", "c"]);
});

it("keeps the order with many tasks, some of them cancelled", () => {
  const clock = new VirtualClock();
  const ran: number[] = [];
  const cancels: (() => void)[] = [];
  for (let i = 0; i < 2_000; i++) {
    const delay = (i * 7919) % 1_009;
    cancels.push(clock.schedule(delay, () => ran.push(delay)));
  }
  for (const [i, cancel] of cancels.entries()) if (i % 4 !== 0) cancel();
  expect(clock.pending.refs).toBe(500);
  clock.advance(1_009);
  expect(ran).toHaveLength(500);
  expect(ran).toEqual(ran.toSorted((a, b) => a - b));
});

it("advances through tasks that tasks schedule, and shows each its own time", () => {
  const clock = new VirtualClock({ startMs: 100 });
  const at: number[] = [];
  const tick = () => {
    at.push(clock.now());
    clock.schedule(30, tick);
  };
  clock.schedule(30, tick);
  clock.advance(100);
  expect(at).toEqual([130, 160, 190]);
  expect(clock.now()).toBe(200);
});

it.each([0, -5, Number.NaN])(
  "never runs a task inside schedule, even with a delay of %d",
  (delay) => {
    const clock = new VirtualClock();
    let ran = false;
    clock.schedule(delay, () => {
      ran = true;
    });
    expect(ran).toBe(false);
    clock.advance(0);
    expect(ran).toBe(true);
  },
);

it("takes a cancellation twice, and after the task ran", () => {
  const clock = new VirtualClock();
  let ran = 0;
  const first = clock.schedule(1, () => ran++);
  const second = clock.schedule(1, () => ran++);
  second();
  second();
  clock.advance(1);
  first();
  expect(ran).toBe(1);
  expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
});

it("counts what is pending, housekeeping apart", () => {
  const clock = new VirtualClock();
  clock.schedule(5, () => {});
  clock.schedule(Number.POSITIVE_INFINITY, () => {}, { ref: false });
  const cancel = clock.afterPoll(() => {});
  expect(clock.pending).toEqual({ refs: 2, unrefs: 1 });
  cancel();
  expect(clock.pending).toEqual({ refs: 1, unrefs: 1 });
});

it("moves wall time with time, and steps it without moving time", () => {
  const clock = new VirtualClock({ startMs: 7, wallStartMs: 1_000 });
  clock.advance(50);
  clock.stepWall(-400);
  expect(clock.now()).toBe(57);
  expect(clock.wallNow()).toBe(650);
});

it("runs an after-poll task at the same time, after whatever else is due", () => {
  const clock = new VirtualClock();
  const ran: string[] = [];
  clock.schedule(10, () => {
    ran.push("late timer");
    clock.afterPoll(() => ran.push(`poll ${clock.now()}`));
  });
  clock.schedule(10, () => ran.push("answer"));
  clock.schedule(11, () => ran.push("next"));
  const start = clock.now();
  clock.advance(11);
  expect(ran).toEqual(["late timer", "answer", `poll ${start + 10}`, "next"]);
});

it("runs an after-poll task only when microtasks and nextTicks are drained", async () => {
  const clock = new VirtualClock();
  const ran: string[] = [];
  clock.afterPoll(() => ran.push("poll"));
  void Promise.resolve().then(() => process.nextTick(() => ran.push("tick")));
  await clock.pass(0);
  expect(ran).toEqual(["tick", "poll"]);
});

it("lets promises and nextTicks settle before time moves on", async () => {
  const clock = new VirtualClock();
  const start = clock.now();
  const at: number[] = [];
  const sleep = (ms: number) => new Promise<void>((resolve) => void clock.schedule(ms, resolve));
  const chain = async () => {
    for (let i = 0; i < 3; i++) {
      await sleep(10);
      await new Promise<void>((resolve) => process.nextTick(resolve));
      at.push(clock.now() - start);
    }
  };
  void chain();
  await clock.pass(30);
  expect(at).toEqual([10, 20, 30]);
  expect(clock.now() - start).toBe(30);
});

it("waits for a promise by moving time just as far as it takes", async () => {
  const clock = new VirtualClock();
  const start = clock.now();
  clock.schedule(500, () => {});
  const value = new Promise<string>((resolve) => void clock.schedule(40, () => resolve("done")));
  await expect(clock.until(value)).resolves.toBe("done");
  expect(clock.now() - start).toBe(40);
});

it("hands on the rejection of the promise it waits for", async () => {
  const clock = new VirtualClock();
  const failing = new Promise<never>((_, reject) => {
    clock.schedule(5, () => reject(new Error("broken")));
  });
  await expect(clock.until(failing)).rejects.toThrow("broken");
});

it("calls a wait with nothing scheduled a deadlock", async () => {
  const clock = new VirtualClock();
  const start = clock.now();
  clock.schedule(30, () => {});
  clock.schedule(Number.POSITIVE_INFINITY, () => {});
  await expect(clock.until(new Promise(() => {}))).rejects.toThrow(/deadlock/);
  expect(clock.now() - start).toBe(30);
});

it("grants code that waits for a few turns of the event loop its turns before it says deadlock", async () => {
  const clock = new VirtualClock();
  const slow = new Promise<string>((resolve) => {
    setImmediate(() => setImmediate(() => resolve("after two turns")));
  });
  await expect(clock.until(slow)).resolves.toBe("after two turns");
});

it("gives up on a promise when the limit of virtual time is reached", async () => {
  const clock = new VirtualClock();
  const start = clock.now();
  const tick = () => void clock.schedule(7, tick);
  tick();
  await expect(clock.until(new Promise(() => {}), 100)).rejects.toThrow(
    "not settled after 100 ms of virtual time",
  );
  expect(clock.now() - start).toBe(100);
});

it("wakes somebody who passes time at the right time while somebody else waits for longer", async () => {
  const clock = new VirtualClock();
  const start = clock.now();
  let cancel = () => {};
  const ended = new Promise<string>((resolve) => {
    cancel = () => resolve(`cancelled at ${clock.now() - start}`);
    clock.schedule(1_000, () => resolve("too late"));
  });
  const waiting = clock.until(ended);
  await clock.pass(50);
  cancel();
  await expect(waiting).resolves.toBe("cancelled at 50");
});

it("fails the wait when a task throws, instead of the process", async () => {
  const clock = new VirtualClock();
  clock.schedule(1, () => {
    throw new Error("bug in a timer");
  });
  await expect(clock.pass(5)).rejects.toThrow("bug in a timer");
  await clock.pass(5);
});

it("runs a task in the async context of whoever scheduled it, as a timer does", async () => {
  const clock = new VirtualClock();
  const storage = new AsyncLocalStorage<string>();
  const seen: unknown[] = [];
  storage.run("timer", () => clock.schedule(5, () => seen.push(storage.getStore())));
  storage.run("poll", () => clock.afterPoll(() => seen.push(storage.getStore())));
  await storage.run("driver", () => clock.pass(10));
  expect(seen).toEqual(["poll", "timer"]);
});

it("notices tasks that hold time still by scheduling each other without delay", () => {
  const clock = new VirtualClock();
  const spin = () => void clock.schedule(0, spin);
  spin();
  expect(() => clock.advance(1)).toThrow(/does not move/);
});

it("passes a thousand seconds of a busy process in little real time", async () => {
  const clock = new VirtualClock();
  let ticks = 0;
  const tick = () => {
    ticks += 1;
    clock.schedule(100, () => void Promise.resolve().then(tick));
  };
  tick();
  const began = performance.now();
  await clock.pass(1_000_000);
  expect(ticks).toBe(10_001);
  expect(performance.now() - began).toBeLessThan(2_000);
});
