import { describe, expect, it } from "vitest";
import { EventLoopBudget } from "../../../src/policies/admission/event-loop-budget.js";

/** A budget of 20 ms a turn, whose turns end when the test says so. */
function scene(maxMs = 20) {
  let ended = 0;
  let asked = 0;
  let tasks: (() => void)[] = [];
  const clock = {
    afterPoll: (task: () => void) => {
      tasks.push(task);
      return () => {};
    },
  };
  const budget = new EventLoopBudget(
    clock,
    () => {
      asked += 1;
      return maxMs;
    },
    () => {
      ended += 1;
    },
  );
  return {
    budget,
    /** As many as may begin before their handlers run. */
    fill: () => {
      let begun = 0;
      for (; budget.hasRoom && begun < 1_000; begun += 1) budget.began();
      return begun;
    },
    endTurn: () => {
      const due = tasks;
      tasks = [];
      for (const task of due) task();
      return due.length;
    },
    get ended() {
      return ended;
    },
    /** How often it has asked for its bound. */
    get asked() {
      return asked;
    },
  };
}

describe("the budget of a turn", () => {
  it("lets everybody in while handlers leave the loop alone, and asks for no turn", () => {
    const { budget, fill, endTurn } = scene();
    budget.began();
    budget.ran(0);
    expect(fill()).toBe(1_000);
    expect(endTurn()).toBe(0);
  });

  it("lets in no more than fit into the turn, by what handlers have taken", () => {
    const { budget, fill, endTurn } = scene();
    budget.began();
    budget.ran(2);
    endTurn();
    expect(fill()).toBe(10);
  });

  it("counts what has run as it was, in a turn that begins without any knowledge", () => {
    const { budget } = scene();
    let begun = 0;
    for (; budget.hasRoom; begun += 1) {
      budget.began();
      budget.ran(2);
    }
    expect(begun).toBe(10);
  });

  it("lets one in a turn in, however long its handler is", () => {
    const { budget, fill, endTurn } = scene();
    budget.began();
    budget.ran(500);
    expect(fill()).toBe(0);
    endTurn();
    expect(fill()).toBe(1);
  });

  it("tells once when the turn is over, and begins anew", () => {
    const turns = scene();
    turns.budget.began();
    turns.budget.ran(10);
    turns.endTurn();
    expect([turns.fill(), turns.fill()]).toEqual([2, 0]);
    expect(turns.endTurn()).toBe(1);
    expect(turns.ended).toBe(2);
    expect(turns.fill()).toBe(2);
  });

  it("follows handlers that become slower, and faster", () => {
    const { budget, fill, endTurn } = scene();
    const run = (ms: number) => {
      for (let call = 0; call < 60; call += 1) {
        budget.began();
        budget.ran(ms);
        endTurn();
      }
    };
    run(1);
    expect(fill()).toBe(20);
    endTurn();
    run(5);
    expect(fill()).toBe(4);
    endTurn();
    run(0.1);
    expect(fill()).toBeGreaterThan(100);
  });

  it("counts a handler that runs in a later turn than its call began", () => {
    const { budget, fill, endTurn } = scene();
    budget.began();
    budget.ran(2);
    budget.began();
    endTurn();
    budget.ran(2);
    expect(fill()).toBe(9);
  });

  it("asks for its bound every 64 turns", () => {
    const turns = scene();
    const askedAt: number[] = [];
    for (let turn = 0; turn < 129; turn += 1) {
      const before = turns.asked;
      turns.budget.began();
      turns.budget.ran(1);
      turns.endTurn();
      if (turns.asked > before) askedAt.push(turn);
    }
    expect(askedAt).toEqual([0, 64, 128]);
  });

  it("does not hold a call against later turns whose message has not come", () => {
    const { budget, fill, endTurn } = scene();
    budget.began();
    budget.ran(10);
    endTurn();
    fill();
    endTurn();
    expect(fill()).toBe(2);
  });
});
