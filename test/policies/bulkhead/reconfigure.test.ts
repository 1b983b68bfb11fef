import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isQueued, isRefusal, type Permit, type WaitResult } from "../../../src/core/permit.js";
import {
  Bulkhead,
  type BulkheadOptions,
  resolveBulkheadOptions,
  resolveSharing,
} from "../../../src/policies/bulkhead/bulkhead.js";
import type { PartitionOptions } from "../../../src/policies/bulkhead/partition-options.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { permitOf } from "../../core/turns.js";

type Partitions = Readonly<Record<string, PartitionOptions>>;

function resolved(options: BulkheadOptions, partitions?: Partitions) {
  const limits = resolveBulkheadOptions(options);
  const partition = partitions === undefined ? undefined : () => "";
  const { shares } = resolveSharing(
    { partitions, partition, weight: undefined },
    limits.maxConcurrent,
    "bulkhead",
  );
  return [limits, shares] as const;
}

function setup(options: BulkheadOptions, partitions?: Partitions) {
  const clock = new VirtualClock();
  const [limits, shares] = resolved(options, partitions);
  const bulkhead = new Bulkhead(limits, clock, undefined, shares);
  const enter = (name?: string, weight = 1) => {
    const turns: WaitResult[] = [];
    const entry = bulkhead.enter(2, Infinity, (turn) => turns.push(turn), weight, name);
    return { entry, turns, now: () => turns[0] ?? entry };
  };
  const change = (next: BulkheadOptions, others?: Partitions) =>
    bulkhead.reconfigure(...resolved(next, others));
  return { clock, bulkhead, enter, change };
}

describe("a bulkhead whose options change", () => {
  it("serves those who wait when there is more room, and keeps the places of those beyond a shorter queue", () => {
    const { bulkhead, enter, change } = setup({ maxConcurrent: 1, maxQueued: 3 });
    enter();
    const waiting = [enter(), enter(), enter()];
    change({ maxConcurrent: 2, maxQueued: 1 });
    expect(waiting.map(({ turns }) => turns.length)).toEqual([1, 0, 0]);
    expect(bulkhead.queued).toBe(2);
    const late = enter().now();
    expect(isRefusal(late)).toBe(true);
    permitOf(waiting[0]?.turns[0]).settle("success");
    expect(waiting.map(({ turns }) => turns.length)).toEqual([1, 1, 0]);
  });

  it("lets a wait that has begun end when it would have, and a later one by the new bound", () => {
    const { clock, enter, change } = setup({ maxConcurrent: 1, maxWaitMs: 500 });
    enter();
    const before = enter();
    change({ maxConcurrent: 1, maxWaitMs: 100 });
    const after = enter();
    clock.advance(100);
    expect([before, after].map(({ turns }) => turns.length)).toEqual([0, 1]);
    clock.advance(400);
    expect(before.turns).toMatchObject([{ reason: "QUEUE_TIMEOUT" }]);
  });

  it("keeps the running calls of a partition that is gone, and finds them when it comes back", () => {
    const { bulkhead, enter, change } = setup({ maxConcurrent: 4 }, { own: { share: 0.5 } });
    const running = [permitOf(enter("own").entry), permitOf(enter("own").entry)];
    change({ maxConcurrent: 4 }, { other: { share: 0.5 } });
    expect(bulkhead.snapshot()).toMatchObject({
      running: 2,
      partitions: { own: { running: 2, guaranteed: 0 }, other: { running: 0, guaranteed: 2 } },
    });
    // Its later calls are among the others.
    permitOf(enter("own").entry);
    expect(bulkhead.snapshot()).toMatchObject({ partitions: { default: { running: 1 } } });
    change({ maxConcurrent: 4 }, { own: { share: 0.5 } });
    expect(bulkhead.snapshot()).toMatchObject({
      partitions: { own: { running: 2, guaranteed: 2 } },
    });
    for (const permit of running) permit.settle("success");
    expect(bulkhead.snapshot()).toMatchObject({ running: 1, partitions: { own: { running: 0 } } });
  });

  it("gives every permit back and never runs more than it may, whatever changes", () => {
    const names = ["default", "a", "b"] as const;
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          enter: fc.constantFrom(...names),
          weight: fc.integer({ min: 1, max: 3 }),
        }),
      },
      { weight: 5, arbitrary: fc.record({ end: fc.nat(30) }) },
      {
        weight: 2,
        arbitrary: fc.record({
          permits: fc.integer({ min: 2, max: 6 }),
          queue: fc.nat(4),
          shares: fc.constantFrom<Partitions | undefined>(
            undefined,
            { a: { share: 0.5 } },
            { a: { share: 0.5, maxShare: 0.5 }, b: { share: 0.5 } },
            { b: { maxShare: 0.5 } },
          ),
        }),
      },
      { weight: 2, arbitrary: fc.record({ pass: fc.nat(120) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { clock, bulkhead, enter, change } = setup({ maxConcurrent: 3, maxQueued: 2 });
        const calls: ReturnType<typeof enter>[] = [];
        const over = new Set<Permit>();
        const running = () =>
          calls.flatMap(({ now }) => {
            const turn = now();
            return isQueued(turn) || isRefusal(turn) || over.has(turn) ? [] : [turn];
          });
        for (const each of steps) {
          const before = bulkhead.snapshot().running;
          if ("enter" in each) calls.push(enter(each.enter, each.weight));
          else if ("end" in each) {
            const permit = running()[each.end];
            if (permit !== undefined) over.add(permit);
            permit?.settle("success");
          } else if ("pass" in each) clock.advance(each.pass);
          else change({ maxConcurrent: each.permits, maxQueued: each.queue }, each.shares);
          const { running: now, maxConcurrent } = bulkhead.snapshot();
          // Only calls that began under a larger number run beyond the present one.
          expect(now <= maxConcurrent || now <= before).toBe(true);
        }
        for (let left = running(); left.length > 0; left = running()) {
          for (const permit of left) {
            over.add(permit);
            permit.settle("success");
          }
        }
        expect(bulkhead.snapshot()).toMatchObject({ running: 0, queued: 0 });
        expect(clock.pending.refs).toBe(0);
      }),
      { numRuns: 300 },
    );
  });
});
