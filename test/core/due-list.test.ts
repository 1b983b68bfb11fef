import { describe, expect, it } from "vitest";
import { DueList } from "../../src/core/due-list.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";

function list() {
  const clock = new VirtualClock();
  const dues = new DueList(clock);
  const told: string[] = [];
  const startMs = clock.now();
  const add = (name: string, inMs: number) => {
    const due = {
      dueMs: clock.now() + inMs,
      place: -1,
      due: () => void told.push(`${name} ${clock.now() - startMs}`),
    };
    dues.add(due, clock.now());
    return due;
  };
  return { clock, dues, told, add };
}

describe("a list of what is due", () => {
  it("tells each once, when its time is up, in whatever order they came", async () => {
    const { clock, dues, told, add } = list();
    add("late", 300);
    add("early", 100);
    add("middle", 200);
    await clock.pass(1_000);
    expect(told).toEqual(["early 100", "middle 200", "late 300"]);
    expect([dues.size, clock.pending.unrefs]).toEqual([0, 0]);
  });

  it("tells nothing of what was taken out, and has one timer for all", async () => {
    const { clock, dues, told, add } = list();
    const all = Array.from({ length: 1_000 }, (_, index) => add(String(index), 100 + index));
    expect(clock.pending).toEqual({ refs: 0, unrefs: 1 });
    for (const due of all.slice(0, -1)) dues.delete(due);
    await clock.pass(2_000);
    expect(told).toEqual(["999 1099"]);
  });

  it("gathers what is due close together", async () => {
    const { clock, told, add } = list();
    for (let index = 0; index < 20; index += 1) add(String(index), 100 + index);
    await clock.pass(100);
    expect(told).toEqual(["0 100"]);
    await clock.pass(19);
    expect(told).toEqual(["0 100"]);
    await clock.pass(1);
    expect(told).toHaveLength(20);
  });

  it("tells at once what is overdue when it comes", async () => {
    const { clock, told, add } = list();
    add("overdue", -50);
    await clock.pass(0);
    expect(told).toEqual(["overdue 0"]);
  });

  it("has one timer, also when what comes later is due sooner, and keeps it when all have left", () => {
    const { clock, dues, add } = list();
    const all = [add("late", 300), add("early", 100)];
    expect(clock.pending.unrefs).toBe(1);
    for (const due of all) dues.delete(due);
    expect(clock.pending.unrefs).toBe(1);
    dues.close();
    expect(clock.pending.unrefs).toBe(0);
  });

  it("can be added to and taken from while it tells", async () => {
    const { clock, dues, told, add } = list();
    const second = add("second", 100);
    dues.delete(second);
    const first = {
      dueMs: clock.now() + 100,
      place: -1,
      due: () => {
        dues.delete(second);
        add("third", 5);
      },
    };
    dues.add(first, clock.now());
    dues.add(second, clock.now());
    await clock.pass(200);
    expect(told).toEqual(["third 105"]);
  });

  it("tells the others though one throws, and lets what was thrown out", async () => {
    const { clock, dues, told, add } = list();
    const broken = {
      dueMs: clock.now() + 100,
      place: -1,
      due: () => {
        throw new Error("broken");
      },
    };
    dues.add(broken, clock.now());
    add("same", 100);
    add("later", 200);
    const alsoBroken = {
      dueMs: clock.now() + 100,
      place: -1,
      due: () => {
        throw new Error("too");
      },
    };
    dues.add(alsoBroken, clock.now());
    await expect(clock.pass(150)).rejects.toThrow("broken");
    await clock.pass(100);
    expect(told).toEqual(["same 100", "later 200"]);
  });

  it("once closed has no timer while nothing is in it", async () => {
    const { clock, dues, told, add } = list();
    const one = add("one", 100);
    dues.close();
    expect(clock.pending.unrefs).toBe(1);
    dues.delete(one);
    expect(clock.pending.unrefs).toBe(0);
    add("two", 50);
    await clock.pass(100);
    expect(told).toEqual(["two 50"]);
    dues.delete(add("three", 50));
    add("four", 100);
    await clock.pass(100);
    expect(told).toEqual(["two 50", "four 200"]);
    expect(clock.pending.unrefs).toBe(0);
  });
});
