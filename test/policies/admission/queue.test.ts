import { describe, expect, it } from "vitest";
import {
  AdmissionQueue,
  type AdmissionQueueOptions,
} from "../../../src/policies/admission/queue.js";

function line(options: Partial<AdmissionQueueOptions> = {}) {
  const made = new AdmissionQueue<string>({
    order: "priority",
    ranks: 4,
    minShare: 0,
    intervalMs: () => 100,
    ...options,
  });
  return {
    line: made,
    /** Puts in calls named by their rank and a letter: `2a`. */
    fill: (names: string, nowMs = 0) =>
      names.split(" ").map((name) => made.push(name, Number(name[0]), nowMs)),
    /** Takes all out that wait. */
    drain: (nowMs = 0): string => {
      const out: string[] = [];
      for (let next = made.shift(nowMs); next !== undefined; next = made.shift(nowMs)) {
        out.push(next.item);
      }
      return out.join(" ");
    },
  };
}

describe("the order of a waiting line", () => {
  it("priority: the best rank first, by arrival inside it", () => {
    const { fill, drain } = line();
    fill("2a 3a 1a 2b 0a 1b 3b");
    expect(drain()).toBe("0a 1a 1b 2a 2b 3a 3b");
  });

  it("owes a rank a slot once its share of what the better ones were given is one more than wait in it", () => {
    const { line: waiting, fill } = line({ minShare: 0.25 });
    const owed = () => [0, 1, 2, 3].map((rank) => waiting.isOwed(rank));
    for (let slot = 0; slot < 3; slot += 1) waiting.served(0);
    expect(owed()).toEqual([false, false, false, false]);
    waiting.served(0);
    expect(owed()).toEqual([false, true, true, true]);
    fill("3a");
    expect(owed()).toEqual([false, true, true, false]);
    // The share of a slot that was owed goes to all but the first.
    waiting.served(1, true);
    expect(owed()).toEqual([false, false, true, false]);
    for (let slot = 0; slot < 3; slot += 1) waiting.served(2, true);
    expect(owed()).toEqual([false, true, false, true]);
  });

  it("serves a rank that is owed a slot ahead of better ones, behind the first", () => {
    const { line: waiting, fill, drain } = line({ minShare: 0.25 });
    for (let slot = 0; slot < 4; slot += 1) waiting.served(1);
    fill("1a 2a 3a 3b 0a");
    const first = [1, 2, 3].map(() => {
      const next = waiting.shift(0);
      if (next !== undefined) waiting.served(next.rank, next.owed);
      return `${next?.item} ${next?.owed}`;
    });
    expect(first).toEqual(["0a false", "2a true", "3a true"]);
    expect(drain()).toBe("1a 3b");
  });

  it("owes a rank no more than two slots, however long it has waited", () => {
    const { line: waiting, fill } = line({ minShare: 0.25 });
    for (let slot = 0; slot < 40; slot += 1) waiting.served(1);
    fill("1a 1b 1c 1d 3a 3b 3c 3d");
    const order = Array.from({ length: 6 }, () => {
      const next = waiting.shift(0);
      if (next !== undefined) waiting.served(next.rank, next.owed);
      return next?.item;
    });
    // After two, a quarter of each slot, so that the next one is due after four.
    expect(order.join(" ")).toBe("3a 3b 1a 1b 1c 3c");
  });

  it("tells the worst rank that waits, and none when it is empty", () => {
    const { line: waiting, fill } = line();
    expect(waiting.worstRank).toBe(-1);
    fill("1a 2a 0a");
    const worst: number[] = [];
    for (let left = waiting.size; left > 0; left -= 1) {
      worst.push(waiting.worstRank);
      waiting.shift(0);
    }
    expect(worst).toEqual([2, 2, 2]);
    expect(waiting.worstRank).toBe(-1);
    fill("0a");
    expect(waiting.worstRank).toBe(0);
  });

  it("fifo: by arrival, behind the first rank", () => {
    const { fill, drain } = line({ order: "fifo" });
    fill("2a 3a 1a 0a 2b");
    expect(drain()).toBe("0a 2a 3a 1a 2b");
  });

  it("adaptive-lifo: by arrival in a burst, the newest first in a standing queue", () => {
    const { line: waiting, fill, drain } = line({ order: "adaptive-lifo" });
    fill("2a 2b 2c 0a 0b");
    expect(waiting.overloaded(100)).toBe(false);
    expect(drain(100)).toBe("0a 0b 2a 2b 2c");
    fill("2a 2b 0a 0b 1a 1b");
    expect(waiting.overloaded(101)).toBe(true);
    expect(drain(101)).toBe("0a 0b 1b 1a 2b 2a");
  });

  it("a line that was empty in between is not overloaded", () => {
    const { line: waiting, fill, drain } = line({ order: "adaptive-lifo" });
    fill("2a", 0);
    drain(50);
    fill("2b", 90);
    expect(waiting.overloaded(150)).toBe(false);
    expect(waiting.overloaded(191)).toBe(true);
  });

  describe("where calls wait for the event loop alone", () => {
    const loop = () => line({ forLoop: () => true });

    it("is by arrival behind the first rank until a call has waited for the interval, and by rank from then on", () => {
      const { fill, drain } = loop();
      fill("3a 2a 1a 0a 3b");
      expect(drain(100)).toBe("0a 3a 2a 1a 3b");
      fill("3a 2a 1a 0a 3b");
      expect(drain(101)).toBe("0a 1a 2a 3a 3b");
    });

    it("stays by rank until the line is empty, whoever has waited for long leaves", () => {
      const { line: waiting, fill, drain } = loop();
      const [old] = fill("3a");
      fill("3b 2b", 50);
      expect(waiting.overloaded(120)).toBe(true);
      if (old !== undefined) waiting.remove(old);
      expect(waiting.overloaded(120)).toBe(true);
      expect(drain(120)).toBe("2b 3b");
      fill("3c 2c", 130);
      expect(waiting.overloaded(140)).toBe(false);
      expect(drain(140)).toBe("3c 2c");
    });

    it("is no standing one for as long as each call is served soon, however long it is not empty", () => {
      const { line: waiting, fill } = loop();
      fill("2a", 0);
      for (let nowMs = 50; nowMs <= 500; nowMs += 50) {
        fill("2b", nowMs);
        waiting.shift(nowMs);
        expect(waiting.overloaded(nowMs)).toBe(false);
      }
    });
  });

  it("gives each worse rank its share of the turns, and the first rank gives none away", () => {
    const { line: waiting, fill } = line({ minShare: 0.1 });
    const served = { "0": 0, "1": 0, "2": 0, "3": 0 };
    fill("1x 2x 2x 3x 3x");
    const turns = (rank: string) => {
      for (let turn = 0; turn < 1_000; turn += 1) {
        waiting.push(`${rank}x`, Number(rank), 0);
        const place = waiting.shift(0);
        const name = place?.item ?? "";
        waiting.served(Number(name[0]), place?.owed);
        served[name[0] as keyof typeof served] += 1;
        if (name[0] !== rank) waiting.push(name, Number(name[0]), 0);
      }
    };
    turns("0");
    expect(served).toEqual({ "0": 1_000, "1": 0, "2": 0, "3": 0 });
    turns("1");
    expect(served["1"]).toBeGreaterThan(790);
    expect(served["2"]).toBeGreaterThanOrEqual(100);
    expect(served["3"]).toBeGreaterThanOrEqual(100);
    expect(served["2"]).toBeLessThanOrEqual(103);
  });
});

describe("the overflow of a waiting line", () => {
  const victim = (
    policy: Parameters<AdmissionQueue<string>["victim"]>[0],
    rank: number,
    names: string,
  ) => {
    const { line: waiting } = line();
    for (const [index, name] of names.split(" ").entries())
      waiting.push(name, Number(name[0]), index * 10);
    return waiting.victim(policy, rank, 100, 80)?.item;
  };

  it.each([
    ["reject-new", 2, "2a 3a 1a", undefined],
    ["evict-lowest", 2, "2a 3a 1a 3b", "3b"],
    ["evict-lowest", 3, "2a 3a 3b", undefined],
    ["evict-lowest", 1, "0a 1a 0b", undefined],
    ["drop-oldest", 3, "0a 1a 3a 2a", "1a"],
    ["drop-newest", 3, "1a 3a 2a 0a", "2a"],
    // Of 80 ms or more: those who came at 0, 10 and 20.
    ["age-out", 3, "0a 1a 2a 3a", "1a"],
    ["age-out", 3, "0a 0b 0c 3a", undefined],
  ] as const)("%s, for one of rank %i in a line of %s", (policy, rank, names, expected) => {
    expect(victim(policy, rank, names)).toBe(expected);
  });

  it.each(["reject-new", "evict-lowest", "drop-oldest", "drop-newest", "age-out"] as const)(
    "%s finds a place for the first rank while another has one, and puts none of it out for another",
    (policy) => {
      expect(victim(policy, 0, "0a 3a 2a 0b")).toMatch(/[23]a/);
      expect(victim(policy, 0, "0a 0b")).toBe(undefined);
      expect(victim(policy, 2, "0a 0b")).toBe(undefined);
    },
  );
});

describe("a place in a waiting line", () => {
  it("is left once", () => {
    const { line: waiting, fill, drain } = line();
    const [, b] = fill("2a 2b 2c");
    if (b === undefined) throw new Error("no place");
    expect(waiting.remove(b)).toBe(true);
    expect(waiting.remove(b)).toBe(false);
    expect(waiting.size).toBe(2);
    expect(waiting.waiting(2)).toBe(2);
    expect(drain()).toBe("2a 2c");
    expect(waiting.size).toBe(0);
  });
});
