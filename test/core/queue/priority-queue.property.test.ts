import fc from "fast-check";
import { expect, it } from "vitest";
import { PriorityQueue, type QueueHandle } from "../../../src/core/queue/priority-queue.js";

type Step =
  | { readonly op: "push"; readonly rank: number }
  | { readonly op: "serve" }
  | { readonly op: "remove"; readonly pick: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ op: fc.constant("push"), rank: fc.integer({ min: 0, max: 5 }) }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("serve") }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("remove"), pick: fc.nat() }) },
);

const steps = fc.array(step, { maxLength: 150, size: "max" });

function served<T>(queue: PriorityQueue<T>): QueueHandle<T> | undefined {
  const next = queue.first();
  if (next !== undefined) queue.remove(next);
  return next;
}

it("behaves as a sorted list from which items leave at both ends and by handle", () => {
  fc.assert(
    fc.property(steps, (script) => {
      const queue = new PriorityQueue<number>();
      const everPushed: QueueHandle<number>[] = [];
      /** Kept in order of service: by rank, then by arrival. */
      let model: { readonly item: number; readonly rank: number }[] = [];
      for (const next of script) {
        switch (next.op) {
          case "push": {
            const item = everPushed.length;
            everPushed.push(queue.push(item, next.rank));
            model = [...model, { item, rank: next.rank }].sort((a, b) => a.rank - b.rank);
            break;
          }
          case "serve":
            expect(served(queue)?.item).toBe(model.shift()?.item);
            break;
          case "remove": {
            const handle = everPushed[next.pick % Math.max(1, everPushed.length)];
            if (handle === undefined) break;
            const at = model.findIndex(({ item }) => item === handle.item);
            expect(queue.remove(handle)).toBe(at >= 0);
            if (at >= 0) model.splice(at, 1);
            break;
          }
        }
        expect(queue.size).toBe(model.length);
        expect(queue.first()?.item).toBe(model[0]?.item);
      }
      for (const { item, rank } of model) {
        expect(served(queue)).toMatchObject({ item, rank });
      }
      expect(queue.size).toBe(0);
    }),
    { numRuns: 300 },
  );
});
