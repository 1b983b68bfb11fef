import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  AdmissionQueue,
  overflowPolicies,
  queueOrders,
} from "../../../src/policies/admission/queue.js";

const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("push" as const), rank: fc.nat(3) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("shift" as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("leave" as const), which: fc.nat(50) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("evict" as const),
      policy: fc.constantFrom(...overflowPolicies),
      rank: fc.nat(3),
    }),
  },
);

interface Waits {
  readonly id: number;
  readonly rank: number;
  readonly sinceMs: number;
}

describe.each(queueOrders)("a waiting line in %s order", (order) => {
  it("loses nobody, serves nobody twice, and serves and evicts in its order", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), fc.boolean(), (steps, shares) => {
        const line = new AdmissionQueue<Waits>({
          order,
          ranks: 4,
          minShare: shares ? 0.05 : 0,
          intervalMs: () => 100,
        });
        // The model: a plain list by arrival.
        let waiting: { readonly who: Waits; readonly place: ReturnType<typeof line.push> }[] = [];
        const drop = (who: Waits) => {
          waiting = waiting.filter((entry) => entry.who !== who);
        };
        let nowMs = 0;
        for (const [id, act] of steps.entries()) {
          nowMs += 7;
          if (act.kind === "push") {
            const who = { id, rank: act.rank, sinceMs: nowMs };
            waiting.push({ who, place: line.push(who, act.rank, nowMs) });
          } else if (act.kind === "leave") {
            const entry = waiting[act.which % Math.max(1, waiting.length)];
            if (entry === undefined) continue;
            expect(line.remove(entry.place)).toBe(true);
            expect(line.remove(entry.place)).toBe(false);
            drop(entry.who);
          } else if (act.kind === "evict") {
            const found = line.victim(act.policy, act.rank, nowMs, 50);
            if (found === undefined) {
              // Only a line that holds nothing but the first rank has nobody for one of it.
              if (act.rank === 0) expect(waiting.some(({ who }) => who.rank > 0)).toBe(false);
              continue;
            }
            if (act.rank > 0) expect(found.rank).toBeGreaterThan(0);
            if (act.policy === "evict-lowest") expect(found.rank).toBeGreaterThan(act.rank);
            expect(line.remove(found)).toBe(true);
            drop(found.item);
          } else {
            const overloaded = line.overloaded(nowMs);
            const place = line.shift(nowMs);
            const who = place?.item;
            if (place !== undefined) line.served(place.rank, place.owed);
            expect(who === undefined).toBe(waiting.length === 0);
            if (who === undefined) continue;
            const all = waiting.map((entry) => entry.who);
            const first = all.filter(({ rank }) => rank === 0);
            if (first.length > 0) expect(who).toBe(first[0]);
            else if (order === "fifo") expect(who).toBe(all[0]);
            else {
              const peers = all.filter(({ rank }) => rank === who.rank);
              const lifo = order === "adaptive-lifo" && overloaded;
              expect(who).toBe(lifo ? peers.at(-1) : peers[0]);
              const best = Math.min(...all.map(({ rank }) => rank));
              if (!shares) expect(who.rank).toBe(best);
            }
            drop(who);
          }
          expect(line.size).toBe(waiting.length);
          for (const rank of [0, 1, 2, 3]) {
            const peers = waiting.filter(({ who }) => who.rank === rank);
            expect(line.waiting(rank)).toBe(peers.length);
          }
        }
      }),
      { numRuns: 80 },
    );
  });
});
