import fc from "fast-check";
import { expect, it } from "vitest";
import { type Candidate, Semaphore, type Waiter } from "../../src/core/semaphore.js";

const maxQueued = 6;
/** As the callers use it: the best rank alone may go beyond the permits. */
const headroomOf = (rank: number) => (rank === 0 ? 2 : 0);

const rank = fc.integer({ min: 0, max: 3 });
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ op: fc.constant("arrive" as const), rank }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant("release" as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("leave" as const), pick: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("evict" as const), rank }) },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant("resize" as const),
      permits: fc.integer({ min: 1, max: 4 }),
    }),
  },
);

class Caller implements Candidate {
  readonly rank: number;
  readonly order: number;
  readonly #granted: (caller: Caller) => void;
  waiter: Waiter<Caller> | undefined;
  grants = 0;
  gone = false;

  constructor(rank: number, order: number, granted: (caller: Caller) => void) {
    this.rank = rank;
    this.order = order;
    this.#granted = granted;
  }

  grant(): void {
    this.grants += 1;
    this.#granted(this);
  }
}

const best = (callers: Iterable<Caller>) =>
  [...callers].sort((a, b) => a.rank - b.rank || a.order - b.order)[0];
const worst = (callers: Iterable<Caller>) =>
  [...callers].sort((a, b) => b.rank - a.rank || b.order - a.order)[0];

it("loses nobody, grants nobody twice, keeps the order and the bounds, and comes back to zero", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 4 }),
      fc.array(step, { maxLength: 120, size: "max" }),
      (permits, script) => {
        const semaphore = new Semaphore<Caller>({ permits, maxQueued });
        const callers: Caller[] = [];
        const waiting = new Set<Caller>();
        let running = 0;
        const granted = (caller: Caller) => {
          expect(caller).toBe(best(waiting));
          waiting.delete(caller);
          running += 1;
          expect(running).toBeLessThanOrEqual(semaphore.permits + headroomOf(caller.rank));
        };
        const release = () => {
          running -= 1;
          semaphore.release();
        };

        for (const next of script) {
          if (next.op === "arrive") {
            const caller = new Caller(next.rank, callers.length, granted);
            callers.push(caller);
            const headroom = headroomOf(caller.rank);
            const ahead = [...waiting].some((other) => other.rank <= caller.rank);
            const room = running < semaphore.permits + headroom;
            const acquired = semaphore.tryAcquire(caller.rank, headroom);
            expect(acquired).toBe(room && !ahead);
            if (acquired) {
              caller.grants += 1;
              running += 1;
              continue;
            }
            caller.waiter = semaphore.enqueue(caller.rank, caller, headroom);
            expect(caller.waiter === undefined).toBe(waiting.size === maxQueued);
            if (caller.waiter === undefined) caller.gone = true;
            else waiting.add(caller);
          } else if (next.op === "release") {
            if (running > 0) release();
          } else if (next.op === "leave") {
            const caller = callers[next.pick % Math.max(1, callers.length)];
            const waited = caller !== undefined && waiting.delete(caller);
            if (waited) caller.gone = true;
            expect(caller?.waiter?.cancel() ?? false).toBe(waited);
          } else if (next.op === "evict") {
            const expected = worst(waiting);
            const evicted = semaphore.evictLast(next.rank)?.candidate;
            expect(evicted).toBe(expected && expected.rank > next.rank ? expected : undefined);
            if (evicted === undefined) continue;
            waiting.delete(evicted);
            evicted.gone = true;
          } else {
            semaphore.resize(next.permits);
          }
          expect([semaphore.running, semaphore.queued]).toEqual([running, waiting.size]);
          const front = best(waiting);
          if (front !== undefined) {
            expect(running).toBeGreaterThanOrEqual(semaphore.permits + headroomOf(front.rank));
          }
        }

        while (running > 0) release();
        expect([semaphore.running, semaphore.queued, waiting.size]).toEqual([0, 0, 0]);
        for (const caller of callers) expect(caller.grants).toBe(caller.gone ? 0 : 1);
      },
    ),
    { numRuns: 300 },
  );
});
