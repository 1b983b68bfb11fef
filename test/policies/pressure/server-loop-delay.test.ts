import { describe, expect, it } from "vitest";
import { LoopDelay } from "../../../src/policies/pressure/server-process-reader.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { BusyClock } from "../../core/busy-clock.js";

describe("the delay of the event loop", () => {
  it("is the longest lateness since it was read last", () => {
    const clock = new BusyClock();
    const delay = new LoopDelay(clock);
    for (const busyMs of [20, 120, 30]) {
      clock.busy(busyMs);
      clock.turn();
    }
    expect(delay.take()).toBe(100);
    clock.busy(25);
    clock.turn();
    expect(delay.take()).toBe(5);
    // On time, and in the middle of a wait.
    clock.busy(20);
    clock.turn();
    expect([delay.take(), delay.take()]).toEqual([0, 0]);
  });

  it("is seen while it goes on, and in full when it is over", () => {
    const clock = new BusyClock();
    const delay = new LoopDelay(clock);
    clock.busy(220);
    expect(delay.take()).toBe(200);
    clock.busy(100);
    clock.turn();
    expect(delay.take()).toBe(300);
  });

  it("is seen where every turn takes longer than the time between two readings", () => {
    const clock = new BusyClock();
    const delay = new LoopDelay(clock);
    for (let turn = 0; turn < 5; turn += 1) {
      clock.busy(300);
      expect(delay.take()).toBeGreaterThanOrEqual(280);
      clock.turn();
    }
  });

  it("forgets a block that has been over for a second, though nobody asked since", () => {
    const clock = new BusyClock();
    const delay = new LoopDelay(clock);
    clock.busy(1_600);
    clock.turn();
    for (let turn = 0; turn < 60; turn += 1) {
      clock.busy(20);
      clock.turn();
    }
    expect(delay.take()).toBe(0);
    // A shorter one after it is not hidden by it.
    clock.busy(1_600);
    clock.turn();
    for (let turn = 0; turn < 60; turn += 1) {
      clock.busy(25);
      clock.turn();
    }
    expect(delay.take()).toBe(5);
  });

  it("counts for a whole second after it is over, and then no more", () => {
    for (const [sinceMs, expected] of [
      [1_000, 1_580],
      [1_010, 0],
    ] as const) {
      const clock = new BusyClock();
      const delay = new LoopDelay(clock);
      clock.busy(1_600);
      clock.turn();
      for (let turn = 0; turn < 50; turn += 1) {
        clock.busy(20);
        clock.turn();
      }
      clock.busy(sinceMs - 1_000);
      expect(delay.take()).toBe(expected);
    }
  });

  it("counts from the later of two blocks that were as long", () => {
    const clock = new BusyClock();
    const delay = new LoopDelay(clock);
    for (let block = 0; block < 2; block += 1) {
      clock.busy(720);
      clock.turn();
    }
    for (let turn = 0; turn < 20; turn += 1) {
      clock.busy(20);
      clock.turn();
    }
    expect(delay.take()).toBe(700);
  });

  it("keeps no process alive that has nothing else to do", () => {
    const clock = new VirtualClock();
    const delay = new LoopDelay(clock);
    expect(clock.pending.refs).toBe(0);
    delay.stop();
  });

  it("is 0 on a loop that is on time, and nothing is asked after the end", () => {
    const clock = new BusyClock();
    const delay = new LoopDelay(clock);
    clock.busy(10);
    expect(delay.take()).toBe(0);
    expect(clock.pending).toBe(1);
    delay.stop();
    expect(clock.pending).toBe(0);
  });
});
