import fc from "fast-check";
import { expect, it } from "vitest";
import { AdmissionQueue } from "../../../src/policies/admission/queue.js";
import { UsageByCaller } from "../../../src/policies/admission/usage.js";

const caller = fc.nat(7);
const rank = fc.nat(3);
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("push" as const), caller, rank }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("serve" as const), ms: fc.nat(50) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("full" as const), caller, rank }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("leave" as const), which: fc.nat(50) }) },
  // Also of callers whose calls wait, and less than nothing.
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("charge" as const),
      caller,
      ms: fc.integer({ min: -50, max: 50 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("pass" as const), ms: fc.nat(400) }) },
);

interface Waits {
  readonly id: number;
  readonly caller: number;
  readonly rank: number;
}

const halfLifeMs = 100;

it("in each priority who has used least is next, and nobody is refused for one who has used more", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 150 }), (steps) => {
      // Fewer accounts than callers, so that some are forgotten.
      const usage = new UsageByCaller({ halfLifeMs, maxKeys: 5 });
      const queue = new AdmissionQueue<Waits>({
        order: "priority",
        ranks: 4,
        minShare: 0,
        intervalMs: () => 100,
        usage,
      });
      let nowMs = 0;
      let waiting: { readonly who: Waits; readonly ticket: ReturnType<typeof queue.push> }[] = [];
      const used = () => new Map(usage.at(nowMs));
      const usedBy = (one: number) => used().get(`caller-${one}`) ?? 0;
      const inRank = (of: number) => waiting.filter(({ who }) => who.rank === of);
      const drop = (who: Waits) => {
        waiting = waiting.filter((each) => each.who !== who);
      };
      for (const [id, act] of steps.entries()) {
        if (act.kind === "push") {
          const who = { id, caller: act.caller, rank: act.rank };
          const account = usage.of(`caller-${act.caller}`);
          waiting.push({ who, ticket: queue.push(who, act.rank, nowMs, account) });
        } else if (act.kind === "charge") {
          queue.charge(usage.of(`caller-${act.caller}`), act.ms, nowMs);
        } else if (act.kind === "pass") {
          nowMs += act.ms;
        } else if (act.kind === "leave") {
          const one = waiting[act.which % Math.max(1, waiting.length)];
          if (one === undefined) continue;
          expect(queue.remove(one.ticket)).toBe(true);
          drop(one.who);
        } else if (act.kind === "serve") {
          const served = queue.shift(nowMs)?.item;
          expect(served === undefined).toBe(waiting.length === 0);
          if (served === undefined) continue;
          const peers = inRank(served.rank);
          expect(served.rank).toBe(Math.min(...waiting.map(({ who }) => who.rank)));
          for (const { who } of peers) {
            expect(usedBy(served.caller)).toBeLessThanOrEqual(usedBy(who.caller));
          }
          // Of one caller the oldest.
          expect(peers.find(({ who }) => who.caller === served.caller)?.who).toBe(served);
          drop(served);
          queue.charge(usage.of(`caller-${served.caller}`), act.ms, nowMs);
        } else {
          const account = usage.of(`caller-${act.caller}`);
          const victim = queue.victim("evict-lowest", act.rank, nowMs, 50, account);
          const worse = waiting.some(({ who }) => who.rank > act.rank);
          const heavier = inRank(act.rank).filter(
            ({ who }) => usedBy(who.caller) > usedBy(act.caller),
          );
          if (victim === undefined) {
            expect(worse || (act.rank > 0 && heavier.length > 0)).toBe(false);
            continue;
          }
          const { item: gone } = victim;
          const peers = inRank(gone.rank);
          for (const { who } of peers) {
            expect(usedBy(gone.caller)).toBeGreaterThanOrEqual(usedBy(who.caller));
          }
          if (worse) expect(gone.rank).toBe(Math.max(...waiting.map(({ who }) => who.rank)));
          else expect(heavier.map(({ who }) => who)).toContain(gone);
          // Of one caller the newest.
          expect(peers.findLast(({ who }) => who.caller === gone.caller)?.who).toBe(gone);
          expect(queue.remove(victim)).toBe(true);
          drop(gone);
        }
        expect(queue.size).toBe(waiting.length);
        expect(used().size).toBeLessThanOrEqual(
          5 + new Set(waiting.map(({ who }) => who.caller)).size,
        );
      }
    }),
    { numRuns: 150 },
  );
});
