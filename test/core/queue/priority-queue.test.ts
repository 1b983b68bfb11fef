import { describe, expect, it } from "vitest";
import { PriorityQueue } from "../../../src/core/queue/priority-queue.js";

function queueOf(...entries: readonly (readonly [string, number])[]) {
  const queue = new PriorityQueue<string>();
  const handles = new Map(entries.map(([item, rank]) => [item, queue.push(item, rank)]));
  const handle = (item: string) => {
    const found = handles.get(item);
    if (found === undefined) throw new Error(`no ${item}`);
    return found;
  };
  return { queue, handle };
}

function drain(queue: PriorityQueue<string>): string[] {
  const items: string[] = [];
  for (let next = queue.first(); next !== undefined; next = queue.first()) {
    queue.remove(next);
    items.push(next.item);
  }
  return items;
}

describe("a priority queue", () => {
  it("serves the lowest rank number first, and inside a rank who came first", () => {
    const { queue } = queueOf(["b1", 2], ["a1", 1], ["b2", 2], ["a2", 1], ["c1", 3]);
    expect(drain(queue)).toEqual(["a1", "a2", "b1", "b2", "c1"]);
  });

  it("shows who is next without taking them", () => {
    const { queue } = queueOf(["middle", 2], ["best", 1], ["worst", 3]);
    expect([queue.first()?.item, queue.size]).toEqual(["best", 3]);
  });

  it("has nobody who is next when it is empty", () => {
    const queue = new PriorityQueue<string>();
    expect(queue.first()).toBeUndefined();
    expect(queue.size).toBe(0);
  });

  it("lets an item leave from the middle, once", () => {
    const { queue, handle } = queueOf(["a", 1], ["b", 2], ["c", 3]);
    expect(queue.remove(handle("b"))).toBe(true);
    expect(queue.remove(handle("b"))).toBe(false);
    expect(drain(queue)).toEqual(["a", "c"]);
  });

  it("does not remove what has been taken", () => {
    const { queue, handle } = queueOf(["a", 1]);
    queue.remove(handle("a"));
    queue.push("b", 1);
    expect(queue.remove(handle("a"))).toBe(false);
    expect(queue.size).toBe(1);
  });

  it("shows all that are in it, while they are taken out too", () => {
    const { queue } = queueOf(["a", 2], ["b", 1], ["c", 3]);
    const seen = queue.handles().map((each) => {
      queue.remove(each);
      return each.item;
    });
    expect(seen.toSorted()).toEqual(["a", "b", "c"]);
    expect([queue.size, queue.handles()]).toEqual([0, []]);
  });

  it("does not know the handles of another queue", () => {
    const { queue } = queueOf(["a", 1]);
    const other = queueOf(["b", 1]);
    expect(queue.remove(other.handle("b"))).toBe(false);
    expect(queue.remove({ item: "a", rank: 1 })).toBe(false);
    expect([queue.size, other.queue.size]).toEqual([1, 1]);
  });

  it("orders infinite ranks, and refuses one that is not a number", () => {
    const { queue } = queueOf(["last", Infinity], ["first", -Infinity], ["zero", 0], ["also", -0]);
    expect(() => queue.push("never", Number.NaN)).toThrow(RangeError);
    expect(drain(queue)).toEqual(["first", "zero", "also", "last"]);
  });

  it("moves a gap's filler up when it belongs above the gap", () => {
    // Two subtrees of very different ranks: removing deep in the worse one pulls in a better filler.
    const queue = new PriorityQueue<number>();
    const ranks = [0, 10, 1, 1, 1, 11, 12, 13, 14, 2, 2, 2, 2];
    const handles = ranks.map((rank, index) => queue.push(index, rank));
    const deep = handles[5];
    if (deep !== undefined) queue.remove(deep);
    const served: number[] = [];
    for (let next = queue.first(); next !== undefined; next = queue.first()) {
      queue.remove(next);
      served.push(next.rank);
    }
    expect(served).toEqual([0, 1, 1, 1, 2, 2, 2, 2, 10, 12, 13, 14]);
  });

  it("compares a push and a pop of a full queue with few others", () => {
    const size = 4_096;
    let compared = 0;
    const rank = (value: number) =>
      ({
        [Symbol.toPrimitive]() {
          compared += 1;
          return value;
        },
      }) as unknown as number;
    const queue = new PriorityQueue<number>();
    for (let index = 0; index < size; index += 1) queue.push(index, (index * 7_919) % size);
    const handle = queue.push(-1, rank(-1));
    queue.remove(handle);
    // Two heaps of depth six: a sift looks at four children a level, and each look may read twice.
    expect(compared).toBeGreaterThan(0);
    expect(compared).toBeLessThan(120);
  });
});
