import fc from "fast-check";
import { expect, it } from "vitest";
import {
  isQueued,
  isRefusal,
  type Permit,
  type Queued,
  type WaitResult,
} from "../../../src/core/permit.js";
import { type Priority, priorities } from "../../../src/core/priority.js";
import { Admission, type AdmissionCall } from "../../../src/policies/admission/admission.js";
import { resolveAdmissionOptions } from "../../../src/policies/admission/options.js";
import { LoadThresholds } from "../../../src/policies/admission/shedders.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { callOf } from "./scene.js";

interface Call extends AdmissionCall {
  place: Queued | undefined;
  permit: Permit | undefined;
  turns: number;
  left: boolean;
}

const pick = fc.nat();
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant("arrive" as const),
      priority: fc.constantFrom(...priorities),
      withinMs: fc.constantFrom(Infinity, 0, 5, 30, 200),
      /** What a refused or admitted call does from inside its turn. */
      reaction: fc.constantFrom("none" as const, "settle" as const, "arrive" as const),
    }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("settle" as const), pick }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("leave" as const), pick }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant("advance" as const),
      ms: fc.integer({ min: 1, max: 40 }),
    }),
  },
);

const options = fc.record({
  limit: fc.integer({ min: 1, max: 5 }),
  maxQueued: fc.integer({ min: 0, max: 5 }),
  maxWaitMs: fc.constantFrom(0, 20, 50),
  criticalHeadroom: fc.constantFrom(0, 0.1, 0.5),
  thresholds: fc.constantFrom({}, { low: 1, normal: 1, high: 1 }, { low: 0.4, normal: 0.6 }),
});

it("gives everyone one turn, keeps its bounds, never sheds critical before others, and comes back to zero", () => {
  fc.assert(
    fc.property(
      options,
      fc.array(step, { maxLength: 100, size: "max" }),
      fc.boolean(),
      (chosen, script, drains) => {
        const clock = new VirtualClock();
        const failures: unknown[] = [];
        const resolved = resolveAdmissionOptions(chosen);
        const admission = new Admission(resolved, clock, seededRandom(1), {
          shedders: resolved.thresholds === false ? [] : [new LoadThresholds(resolved.thresholds)],
          report: (error) => failures.push(error),
        });
        const most = chosen.limit + Math.ceil(chosen.limit * resolved.criticalHeadroom);
        const calls: Call[] = [];
        const holding = new Set<Call>();
        const waiting = new Set<Call>();

        const settle = (call: Call) => {
          holding.delete(call);
          call.permit?.settle("success");
          call.permit?.settle("failure");
        };
        const taken = (call: Call, turn: WaitResult, entering: boolean) => {
          call.turns += 1;
          waiting.delete(call);
          if (!isRefusal(turn)) {
            call.permit = turn;
            holding.add(call);
            expect(clock.now()).toBeLessThan(call.deadlineMs);
            return;
          }
          const { reason, retryAfterMs } = turn;
          if (retryAfterMs !== undefined) {
            expect(retryAfterMs).toBeGreaterThanOrEqual(20);
            expect(retryAfterMs).toBeLessThanOrEqual(5_000);
          }
          if (reason === "QUEUE_TIMEOUT") expect(entering).toBe(false);
          if (reason === "DEADLINE_EXPIRED") {
            expect(clock.now()).toBeGreaterThanOrEqual(call.deadlineMs);
          }
          const forLoad = reason === "LOAD_SHED" || reason === "CONCURRENCY_LIMIT";
          if (forLoad && call.priority === "critical") {
            expect([...waiting].filter(({ priority }) => priority !== "critical")).toEqual([]);
          }
        };
        const arrive = (priority: Priority, withinMs: number, reaction: string) => {
          const deadlineMs = clock.now() + withinMs;
          const call: Call = {
            ...callOf(priority, deadlineMs),
            place: undefined,
            permit: undefined,
            turns: 0,
            left: false,
          };
          calls.push(call);
          const entry = admission.enter(call, (turn, waitedMs) => {
            expect(call.place).toBeDefined();
            expect(waitedMs).toBeLessThanOrEqual(resolved.maxWaitMs);
            taken(call, turn, false);
            if (reaction === "settle") {
              const [other] = holding;
              if (other !== undefined) settle(other);
            } else if (reaction === "arrive") {
              arrive("high", Infinity, "none");
            }
          });
          if (!isQueued(entry)) return taken(call, entry, true);
          call.place = entry;
          waiting.add(call);
        };
        const check = () => {
          const { running, queued } = admission.snapshot();
          expect([running, queued]).toEqual([holding.size, waiting.size]);
          expect(running).toBeLessThanOrEqual(most);
          expect(queued).toBeLessThanOrEqual(chosen.maxQueued);
          const ordinary = [...waiting].some(({ priority }) => priority !== "critical");
          if (ordinary) expect(running).toBeGreaterThanOrEqual(chosen.limit);
          expect(clock.pending).toEqual({ refs: waiting.size, unrefs: 0 });
        };

        for (const next of script) {
          if (next.op === "arrive") {
            arrive(next.priority, next.withinMs, next.reaction);
          } else if (next.op === "settle") {
            const call = [...holding][next.pick % Math.max(1, holding.size)];
            if (call !== undefined) settle(call);
          } else if (next.op === "leave") {
            const call = calls[next.pick % Math.max(1, calls.length)];
            if (call?.place === undefined) continue;
            const waited = waiting.delete(call);
            expect(call.place.leave()).toBe(waited);
            call.left ||= waited;
          } else {
            clock.advance(next.ms);
          }
          check();
        }

        if (drains) admission.drain();
        // Whoever a settled permit admits joins the set, and is settled in its turn.
        for (const call of holding) settle(call);
        check();
        const { running, queued, admitted, refused, left } = admission.snapshot();
        expect([running, queued]).toEqual([0, 0]);
        for (const call of calls) expect(call.turns).toBe(call.left ? 0 : 1);
        for (const priority of priorities) {
          const arrived = calls.filter((call) => call.priority === priority).length;
          expect(admitted[priority] + refused[priority] + left[priority]).toBe(arrived);
        }
        expect(failures).toEqual([]);
      },
    ),
    { numRuns: 300 },
  );
});
