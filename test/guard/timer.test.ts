import { AsyncLocalStorage } from "node:async_hooks";
import { describe, expect, it } from "vitest";
import { GuardTimer, queueClock } from "../../src/guard/timer.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";

function setup(ms = 100) {
  const clock = new VirtualClock();
  const timer = new GuardTimer(clock, ms);
  const expired: string[] = [];
  const start = (name: string) =>
    timer.start(
      { expire: () => expired.push(`${name} at ${clock.now() % 1_000_000}`) },
      clock.now(),
    );
  return { clock, timer, expired, start };
}

describe("a timer for many", () => {
  it("tells each at its own time, whoever is taken out before", () => {
    const { clock, timer, expired, start } = setup();
    const times = ["a", "b", "c", "d", "e"].map((name) => {
      const time = start(name);
      clock.advance(10);
      return time;
    });
    for (const place of [0, 2, 4]) {
      const time = times[place];
      if (time !== undefined) timer.stop(time);
    }
    expect(clock.pending.refs).toBe(1);
    clock.advance(1_000);
    expect(expired).toEqual(["b at 110", "d at 130"]);
    expect(clock.pending.refs).toBe(0);
  });

  it("is taken down in the turn of the loop in which nobody needs it any more, and not sooner", () => {
    const { clock, timer, expired, start } = setup();
    for (let n = 0; n < 3; n += 1) timer.stop(start("in time"));
    // The timer, and the look whether it is needed.
    expect(clock.pending.refs).toBe(2);
    const kept = start("kept");
    clock.advance(0);
    expect(clock.pending.refs).toBe(1);
    timer.stop(kept);
    clock.advance(0);
    expect(clock.pending.refs).toBe(0);
    start("again");
    clock.advance(100);
    expect(expired).toEqual(["again at 100"]);
  });

  it("runs in the async context of whoever made it, not of whoever started it", () => {
    const storage = new AsyncLocalStorage<string>();
    const { clock, timer } = setup();
    const seen: (string | undefined)[] = [];
    storage.run("a request", () =>
      timer.start({ expire: () => seen.push(storage.getStore()) }, clock.now()),
    );
    clock.advance(100);
    expect(seen).toEqual([undefined]);
  });

  it("may be started and stopped by those whom it tells", () => {
    const { clock, timer, expired, start } = setup();
    const other = start("other");
    timer.start(
      {
        expire() {
          start("later");
        },
      },
      clock.now(),
    );
    clock.advance(50);
    timer.stop(other);
    clock.advance(1_000);
    expect(expired).toEqual(["later at 200"]);
  });
});

describe("the clock of a queue", () => {
  it("bears equal waits with one timer and others with their own, and takes cancelling twice", () => {
    const clock = new VirtualClock();
    const waits = queueClock(clock, 100);
    const ran: string[] = [];
    const cancel = waits.schedule(100, () => ran.push("cancelled"));
    waits.schedule(100, () => ran.push("equal"));
    waits.schedule(30, () => ran.push("shorter"));
    waits.schedule(100, () => ran.push("housekeeping"), { ref: false });
    expect(clock.pending).toEqual({ refs: 2, unrefs: 1 });
    cancel();
    cancel();
    const late = waits.schedule(100, () => ran.push("last"));
    clock.advance(100);
    late();
    expect(ran.toSorted()).toEqual(["equal", "housekeeping", "last", "shorter"]);
    const [first, second, third] = ["first", "second", "third"].map((name) =>
      waits.schedule(100, () => ran.push(name)),
    );
    second?.();
    first?.();
    second?.();
    third?.();
    clock.advance(200);
    expect(ran).toHaveLength(4);
    expect(waits.now()).toBe(clock.now());
    expect(waits.wallNow()).toBe(clock.wallNow());
  });
});
