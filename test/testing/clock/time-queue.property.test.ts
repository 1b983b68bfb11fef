import fc from "fast-check";
import { expect, it } from "vitest";
import { type Timed, TimeQueue } from "../../../src/testing/clock/time-queue.js";

it("a queue gives its entries in the order of their times, whatever is removed in between", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(50), fc.boolean())), (given) => {
      const queue = new TimeQueue<Timed>();
      const entries = given.map(([at], order) => ({ at, order, place: -1 }));
      for (const entry of entries) queue.add(entry);
      const kept = entries.filter((_, index) => given[index]?.[1] === true);
      for (const entry of entries) if (!kept.includes(entry)) queue.remove(entry);
      const taken: Timed[] = [];
      for (let next = queue.first; next !== undefined; next = queue.first) {
        queue.remove(next);
        taken.push(next);
      }
      expect(taken).toEqual(kept.toSorted((a, b) => a.at - b.at || a.order - b.order));
    }),
  );
});
