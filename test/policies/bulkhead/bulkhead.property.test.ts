import fc from "fast-check";
import { expect, it } from "vitest";
import { type GateAnswer, isQueued, isRefusal } from "../../../src/core/permit.js";
import { Bulkhead, resolveBulkheadOptions } from "../../../src/policies/bulkhead/bulkhead.js";
import { resolvePartitions } from "../../../src/policies/bulkhead/partition-options.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { fateOf } from "../../core/turns.js";
import { BulkheadModel, type ModelCall } from "./model.js";

const partitions = [
  { name: "default", tenths: 0, maxTenths: 10 },
  { name: "checkout", tenths: 5, maxTenths: 10 },
  { name: "reports", tenths: 1, maxTenths: 3 },
  { name: "search", tenths: 2, maxTenths: 6 },
];
const shares = Object.fromEntries(
  partitions.map(({ name, tenths, maxTenths }) => [
    name,
    { share: tenths / 10, maxShare: maxTenths / 10 },
  ]),
);

interface Given {
  readonly partition: string;
  readonly rank: number;
  readonly weight: number;
  readonly withinMs: number;
  /** What its callback does with a permit that it had to wait for. */
  readonly brief: string;
}

const limits = fc.record({
  permits: fc.integer({ min: 3, max: 12 }),
  maxQueued: fc.integer({ min: 0, max: 14 }),
  maxWaitMs: fc.constantFrom(0, 10, 10, 10),
});
const call: fc.Arbitrary<Given> = fc.record({
  partition: fc.constantFrom(...partitions.map(({ name }) => name)),
  rank: fc.integer({ min: 0, max: 2 }),
  weight: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 7 })),
  withinMs: fc.oneof(fc.constant(Infinity), fc.integer({ min: 0, max: 15 })),
  brief: fc.constantFrom("", "", "", "settles", "throws"),
});
const step = fc.oneof(
  { weight: 8, arbitrary: fc.record({ op: fc.constant("enter" as const), call }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant("settle" as const), pick: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("leave" as const), pick: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("pass" as const), ms: fc.nat({ max: 8 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant("resize" as const),
      permits: fc.integer({ min: 1, max: 12 }),
    }),
  },
);

const byNumber = (a: string, b: string) => Number.parseInt(a, 10) - Number.parseInt(b, 10);

it("does with partitions, weights, deadlines and resizes what the rules say, and loses nothing", () => {
  fc.assert(
    fc.property(limits, fc.array(step, { maxLength: 100, size: "max" }), (limit, script) => {
      const clock = new VirtualClock({ startMs: 0 });
      const { permits, ...queue } = limit;
      const errors: unknown[] = [];
      const bulkhead = new Bulkhead(
        resolveBulkheadOptions({ maxConcurrent: permits, ...queue }),
        clock,
        (error) => errors.push(error),
        resolvePartitions(shares, permits),
      );
      const model = new BulkheadModel(partitions, { ...limit, nowMs: 0 });
      const told: string[] = [];
      const calls: { readonly model: ModelCall; entry: GateAnswer }[] = [];
      let refused = 0;
      let left = 0;

      const enter = ({ partition, rank, weight, withinMs, brief }: Given) => {
        const deadlineMs = clock.now() + withinMs;
        const id = calls.length;
        const inModel: ModelCall = {
          id,
          partition,
          rank,
          weight,
          deadlineMs,
          brief: brief !== "",
          since: 0,
        };
        const expected = model.enter(inModel);
        const entry = bulkhead.enter(
          rank,
          deadlineMs,
          (turn) => {
            told.push(`${id} ${fateOf(turn)}`);
            if (isRefusal(turn)) {
              refused += 1;
              return;
            }
            const known = calls[id];
            if (known !== undefined) known.entry = turn;
            if (brief === "settles") turn.settle("success");
            if (brief === "throws") throw new Error(`${id} is broken`);
          },
          weight,
          partition,
        );
        calls.push({ model: inModel, entry });
        expect(fateOf(entry)).toBe(expected);
        if (isRefusal(entry)) refused += 1;
      };
      const settle = (which: ModelCall | undefined) => {
        const found = calls.find((one) => one.model === which);
        if (found === undefined || isRefusal(found.entry) || isQueued(found.entry)) return;
        found.entry.settle("success");
        model.settle(found.model);
      };
      const agree = () => {
        expect(told).toEqual(model.told);
        const snapshot = bulkhead.snapshot();
        expect(snapshot).toMatchObject({
          maxConcurrent: model.permits,
          running: model.weight(),
          queued: model.waiting.length,
          refused,
          left,
        });
        for (const { name } of partitions) {
          expect(snapshot.partitions?.[name]).toMatchObject({
            guaranteed: model.guaranteed(name),
            most: model.most(name),
            running: model.weight(name),
            queued: model.waiting.filter(({ partition }) => partition === name).length,
          });
        }
      };

      for (const next of script) {
        const before = bulkhead.snapshot();
        if (next.op === "enter") enter(next.call);
        else if (next.op === "settle") {
          settle(model.running[next.pick % Math.max(1, model.running.length)]);
        } else if (next.op === "leave") {
          const found = calls[next.pick % Math.max(1, calls.length)];
          const expected = found !== undefined && model.leave(found.model);
          const entry = found?.entry;
          expect(entry !== undefined && isQueued(entry) && entry.leave()).toBe(expected);
          if (expected) left += 1;
        } else if (next.op === "pass") {
          model.advanceTo(clock.now() + next.ms);
          clock.advance(next.ms);
        } else {
          model.resize(next.permits);
          bulkhead.resize(next.permits);
          // Those who have become too heavy are told last, and in no order.
          const last = told.findLastIndex((line) => !line.endsWith("BULKHEAD_FULL")) + 1;
          told.push(...told.splice(last).toSorted(byNumber));
          model.told.push(...model.told.splice(last).toSorted(byNumber));
        }
        agree();
        // Never more than there are, unless they have become fewer: then nothing is added to what runs.
        const after = bulkhead.snapshot();
        expect(after.running).toBeLessThanOrEqual(Math.max(after.maxConcurrent, before.running));
        // Nobody who is within the guarantee waits while there is room, and nobody waits behind nobody.
        for (const head of model.heads()) {
          if (model.isOwn(head)) expect(model.fits(head)).toBe(false);
        }
        if (after.running === 0) expect(after.queued).toBe(0);
      }

      // Whoever still waits is served when the others end, without the help of time.
      for (const _ of calls) settle(model.running[0]);
      agree();
      expect(bulkhead.snapshot()).toMatchObject({ running: 0, queued: 0 });
      expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
      const { admitted } = bulkhead.snapshot();
      expect(admitted + refused + left).toBe(calls.length);
      const turns = told.map((line) => line.split(" ")[0]);
      expect(new Set(turns).size).toBe(turns.length);
    }),
    { numRuns: 250 },
  );
});
