import fc from "fast-check";
import { expect, it } from "vitest";
import { type Gate, GateRun } from "../../src/core/gate.js";
import { resolveRateLimitOptions } from "../../src/policies/rate-limit/options.js";
import { RateLimit } from "../../src/policies/rate-limit/rate-limit.js";
import type { QuotaAnswer, QuotaStore } from "../../src/policies/rate-limit/store.js";
import { TokenBucket, type TokenRate } from "../../src/policies/rate-limit/token-bucket.js";
import { VirtualClock } from "../../src/testing/clock/virtual-clock.js";
import { FakeGate } from "./gate-scene.js";

/** A bucket that counts what is out: taken, and not given back. */
class CountingStore implements QuotaStore {
  out = 0;
  readonly #bucket: TokenBucket;

  constructor(rate: TokenRate) {
    this.#bucket = new TokenBucket(rate);
  }

  take(_key: string, cost: number, _rate: TokenRate, nowMs: number): QuotaAnswer {
    const waitMs = this.#bucket.take(cost, nowMs);
    if (waitMs > 0) return { granted: false, retryAfterMs: waitMs };
    this.out += cost;
    return { granted: true };
  }

  giveBack(_key: string, cost: number): void {
    this.out -= cost;
    this.#bucket.giveBack(cost);
  }
}

const rate = fc.record({
  burst: fc.integer({ min: 1, max: 4 }),
  ratePerSecond: fc.integer({ min: 1, max: 20 }),
  maxWaitMs: fc.constantFrom(0, 0, 200),
  mode: fc.constantFrom("enforce" as const, "enforce" as const, "observe" as const),
});

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant("enter" as const),
      cost: fc.integer({ min: 0, max: 3 }),
      behind: fc.constantFrom("pass" as const, "refuse" as const, "queue" as const),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant("pass" as const),
      ms: fc.integer({ min: 0, max: 300 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("end" as const), pick: fc.nat() }) },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant("turn" as const),
      pick: fc.nat(),
      refuse: fc.boolean(),
    }),
  },
);

it("what is out of each rate is what calls hold that came through, or wait further on: no token is lost, and none is made", () => {
  fc.assert(
    fc.property(
      fc.array(rate, { minLength: 1, maxLength: 3 }),
      fc.array(step, { maxLength: 60, size: "max" }),
      (row, script) => {
        const clock = new VirtualClock();
        const beganMs = clock.now();
        const rates = row.map(({ mode, ...options }) => {
          const store = new CountingStore(options);
          const limit = new RateLimit(
            resolveRateLimitOptions({ ...options, store, maxQueued: 3 }),
            { clock, random: () => 0, report: () => {} },
            "rate",
          );
          /** What each call that has a permit of it took. */
          const held = new Map<object, number>();
          return { ...options, mode, store, limit, held };
        });
        type Call = { readonly cost: number; readonly queue: FakeGate; ended: boolean };
        const gates = rates.map(
          ({ limit, mode, held }): Gate<Call> => ({
            policy: "rate",
            modeFor: () => mode,
            enter: (call, onGranted) => {
              const note = <E extends object>(entry: E) => {
                if (!("kind" in entry)) held.set(call, call.cost);
                return entry;
              };
              const { cost } = call;
              const ask = { key: "a", rank: 2, deadlineMs: Infinity, cost };
              return note(
                limit.enter({
                  ...ask,
                  onGranted: (turn, waitedMs) => onGranted(note(turn), waitedMs),
                }),
              );
            },
          }),
        );
        const last: Gate<Call> = {
          policy: "bulkhead",
          modeFor: () => "enforce",
          enter: ({ queue }, onGranted) => queue.enter("call", onGranted),
        };
        const calls: { call: Call; run: GateRun<Call> }[] = [];
        const through = new Set<Call>();
        const enter = (cost: number, behind: "pass" | "refuse" | "queue") => {
          const call: Call = { cost, queue: new FakeGate(behind), ended: false };
          const run = new GateRun<Call>([...gates, last], call, {
            clock,
            admitted: () => through.add(call),
            refused: () => {
              call.ended = true;
            },
            decide: () => {},
          });
          calls.push({ call, run });
          run.run();
        };
        for (const each of script) {
          if (each.op === "pass") clock.advance(each.ms);
          else if (each.op === "enter") enter(each.cost, each.behind);
          else {
            const picked = calls[each.pick % Math.max(1, calls.length)];
            if (picked === undefined) continue;
            const { call, run } = picked;
            if (each.op === "end") {
              run.settle("failure");
              call.ended = true;
            } else call.queue.turn(each.refuse ? call.queue.refusal() : call.queue.permit());
          }
          for (const { store, limit, held, burst, ratePerSecond } of rates) {
            let tokens = 0;
            for (const { call } of calls) {
              if (through.has(call) || !call.ended) tokens += held.get(call) ?? 0;
            }
            // While calls wait for tokens, what was refused behind the rate may be kept for later.
            if (limit.snapshot().queued === 0) expect(store.out).toBe(tokens);
            else expect(store.out).toBeGreaterThanOrEqual(tokens);
            const elapsedMs = clock.now() - beganMs;
            expect(store.out).toBeLessThanOrEqual(
              burst + (elapsedMs * ratePerSecond) / 1_000 + 1e-6,
            );
          }
        }
      },
    ),
    { numRuns: 200 },
  );
});
