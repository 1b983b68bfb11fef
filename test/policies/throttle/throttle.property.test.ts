import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Ending, isRefusal, type Outcome, type Permit } from "../../../src/core/permit.js";
import { priorities } from "../../../src/core/priority.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";
import { throttleScene } from "./throttle-scene.js";

const ends: readonly (readonly [Outcome, Ending | undefined])[] = [
  ["success", undefined],
  ["failure", undefined],
  ["ignored", undefined],
  ["ignored", { unserved: "shed" }],
  ["failure", { unserved: "unavailable" }],
];

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant("ask" as const),
      rank: fc.integer({ min: 0, max: 3 }),
      goesOn: fc.boolean(),
      times: fc.integer({ min: 1, max: 30 }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant("end" as const),
      pick: fc.nat(),
      how: fc.constantFrom(...ends),
      times: fc.integer({ min: 1, max: 30 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant("advance" as const),
      ms: fc.constantFrom(1, 60, 1_000, 7_000, 100_000),
    }),
  },
);

const options = fc.record({
  windowMs: fc.constantFrom(1_000, 60_000),
  k: fc.constantFrom(1.01, 1.5, 2, 10),
  minCalls: fc.integer({ min: 1, max: 20 }),
  maxRefusedShare: fc.constantFrom(0.1, 0.9, 1),
  forcedPassMs: fc.constantFrom(1, 1_000, 1e9 / 2),
});

describe("whatever a throttle is asked and told", () => {
  it("has counts that add up, spares the better priority, and forgets everything", () => {
    fc.assert(
      fc.property(options, fc.array(step, { maxLength: 60, size: "max" }), (chosen, script) => {
        const { throttle, clock } = throttleScene(chosen, seededRandom(script.length));
        const held: Permit[] = [];
        let refused = 0;
        for (const each of script) {
          if (each.op === "advance") clock.advance(each.ms);
          for (let n = 0; each.op === "ask" && n < each.times; n += 1) {
            const answer = each.goesOn ? throttle.check(each.rank) : throttle.acquire(each.rank);
            if (answer !== undefined && isRefusal(answer)) refused += 1;
            if (each.goesOn) held.push(throttle.pass(each.rank));
            else if (answer !== undefined && !isRefusal(answer)) held.push(answer);
          }
          for (let n = 0; each.op === "end" && n < each.times && held.length > 0; n += 1) {
            const [permit] = held.splice(each.pick % held.length, 1);
            permit?.settle(...each.how);
            permit?.settle("ignored");
          }
          const { requests, accepts, rejectRatio, throttled } = throttle.snapshot();
          const counted = priorities.every(
            (priority) => accepts[priority] >= 0 && accepts[priority] <= requests[priority],
          );
          expect(counted).toBe(true);
          const ratios = priorities.map((priority) => rejectRatio[priority]);
          expect(ratios).toEqual(ratios.toSorted((a, b) => a - b));
          expect(Math.min(...ratios)).toBeGreaterThanOrEqual(0);
          expect(Math.max(...ratios)).toBeLessThanOrEqual(chosen.maxRefusedShare);
          expect(throttled).toBe(refused);
        }
        clock.advance(chosen.windowMs);
        for (const permit of held) permit.settle("success");
        const { requests, accepts, rejectRatio } = throttle.snapshot();
        for (const numbers of [requests, accepts, rejectRatio]) {
          expect(Object.values(numbers)).toEqual([0, 0, 0, 0]);
        }
      }),
      { numRuns: 100 },
    );
  });

  it("holds one priority alone back by the formula of the SRE book", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 3 }),
        fc.integer({ min: 10, max: 300 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (rank, requests, share) => {
          const { throttle, history } = throttleScene({ k: 2, maxRefusedShare: 1 });
          const accepts = Math.floor(share * requests);
          const priority = priorities[rank] ?? "normal";
          history(priority, requests, accepts);
          const expected = Math.max(0, (requests - 2 * accepts) / (requests + 1));
          expect(throttle.snapshot().rejectRatio[priority]).toBeCloseTo(expected, 10);
        },
      ),
      { numRuns: 200 },
    );
  });
});
