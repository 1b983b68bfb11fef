import fc from "fast-check";
import { expect, it } from "vitest";
import { isQueued } from "../../../src/core/permit.js";
import type { QuotaAnswer, QuotaStore } from "../../../src/policies/rate-limit/store.js";
import { TokenBucket } from "../../../src/policies/rate-limit/token-bucket.js";
import { type Asking, rateScene } from "./rate-scene.js";

const maxQueued = 5;

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant("enter" as const),
      key: fc.constantFrom("a", "a", "a", "b"),
      rank: fc.integer({ min: 0, max: 3 }),
      cost: fc.integer({ min: 0, max: 4 }),
      withinMs: fc.oneof(fc.constant(Infinity), fc.integer({ min: 1, max: 400 })),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant("pass" as const),
      ms: fc.integer({ max: 200, min: 0 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("leave" as const), pick: fc.nat() }) },
);

interface Call extends Asking {
  readonly key: string;
  readonly rank: number;
  readonly cost: number;
  readonly enteredMs: number;
  readonly withinMs: number;
  gone: boolean;
  endedMs: number | undefined;
}

it("keeps the rate, the order and the bounds, and comes back to zero, whoever comes and leaves", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 0, max: 300 }),
      fc.array(step, { maxLength: 80, size: "max" }),
      (burst, maxWaitMs, script) => {
        const { clock, limit, enter } = rateScene({ burst, maxWaitMs, maxQueued });
        const calls: Call[] = [];
        const waiting = (key: string) =>
          calls.filter((call) => call.key === key && !call.gone && call.endedMs === undefined);
        for (const each of script) {
          if (each.op === "pass") clock.advance(each.ms);
          else if (each.op === "leave") {
            const call = calls[each.pick % Math.max(1, calls.length)];
            if (call === undefined || !isQueued(call.entry)) continue;
            const waited = !call.gone && call.endedMs === undefined;
            if (waited) call.gone = true;
            expect(call.entry.leave()).toBe(waited);
          } else {
            const call: Call = {
              ...each,
              ...enter(each, () => {
                // Before it is taken out: nobody better, and nobody older of its rank, is still there.
                const others = waiting(call.key).filter(({ rank }) => rank <= call.rank);
                if (call.fate() === "admitted") {
                  expect([...others].sort((a, b) => a.rank - b.rank)[0]).toBe(call);
                }
                call.endedMs = clock.now();
              }),
              enteredMs: clock.now(),
              gone: false,
              endedMs: undefined,
            };
            if (!isQueued(call.entry)) {
              call.endedMs = clock.now();
              const ahead = waiting(call.key).filter(({ rank }) => rank <= call.rank);
              if (call.fate() === "admitted" && call.cost > 0) expect(ahead).toEqual([]);
            }
            calls.push(call);
          }
          const queued = [waiting("a").length, waiting("b").length] as const;
          if (Math.max(...queued) > maxQueued) expect(queued).toEqual([maxQueued, maxQueued]);
          if (limit.snapshot().queued !== queued[0] + queued[1]) {
            expect(limit.snapshot().queued).toBe(queued[0] + queued[1]);
          }
        }
        clock.advance(1_000);

        for (const call of calls) {
          expect(call.turns.length).toBe(isQueued(call.entry) && !call.gone ? 1 : 0);
          const waitedMs = (call.endedMs ?? call.enteredMs) - call.enteredMs;
          expect(waitedMs).toBeLessThanOrEqual(Math.min(maxWaitMs, call.withinMs));
          if (call.fate() === "admitted") expect(waitedMs).toBeLessThan(call.withinMs);
        }
        const admitted = calls.filter((call) => call.fate() === "admitted");
        for (const key of ["a", "b"]) {
          const uses = admitted
            .filter((call) => call.key === key)
            .sort((a, b) => (a.endedMs ?? 0) - (b.endedMs ?? 0));
          for (const [index, first] of uses.entries()) {
            let tokens = 0;
            for (const use of uses.slice(index)) {
              tokens += use.cost;
              const elapsedMs = (use.endedMs ?? 0) - (first.endedMs ?? 0);
              const most = burst + elapsedMs / 100;
              if (tokens > most + 1e-6) expect(tokens).toBeLessThanOrEqual(most);
            }
          }
        }
        expect(limit.snapshot()).toMatchObject({
          queued: 0,
          asking: 0,
          admitted: admitted.length,
          left: calls.filter(({ gone }) => gone).length,
          refused: calls.filter((call) => !call.gone && call.fate() !== "admitted").length,
        });
        expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
      },
    ),
    { numRuns: 80 },
  );
});

type Delay = number | "at once" | "never" | "fail";

/** A bucket behind a network: it answers at once or after a while, or never, or fails. */
class RemoteStore implements QuotaStore {
  readonly bucket = new TokenBucket({ ratePerSecond: 10, burst: 3 });
  /** Tokens that went out, less those that came back. */
  out = 0;
  readonly #delays: readonly Delay[];
  readonly #schedule: (ms: number, task: () => void) => void;
  #questions = 0;

  constructor(delays: readonly Delay[], schedule: (ms: number, task: () => void) => void) {
    this.#delays = delays;
    this.#schedule = schedule;
  }

  take(
    _key: string,
    cost: number,
    _rate: unknown,
    nowMs: number,
  ): QuotaAnswer | Promise<QuotaAnswer> {
    const delay = this.#delays[this.#questions++ % this.#delays.length] ?? 0;
    if (delay === "fail") return Promise.reject(new Error("down"));
    if (delay === "never") return new Promise(() => {});
    const waitMs = this.bucket.take(cost, nowMs);
    if (waitMs === 0) this.out += cost;
    const answer: QuotaAnswer =
      waitMs === 0 ? { granted: true } : { granted: false, retryAfterMs: waitMs };
    if (delay === "at once") return answer;
    return new Promise((resolve) => this.#schedule(delay, () => resolve(answer)));
  }

  giveBack(_key: string, cost: number): void {
    this.out -= cost;
    this.bucket.giveBack(cost);
  }
}

it("loses no token of a shared store and no count, however late it answers and whoever leaves meanwhile", async () => {
  const delay = fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 0, max: 80 }) },
    { weight: 3, arbitrary: fc.constant("at once" as const) },
    { weight: 1, arbitrary: fc.constantFrom("never" as const, "fail" as const) },
  );
  const drain = { weight: 1, arbitrary: fc.record({ op: fc.constant("drain" as const) }) };
  await fc.assert(
    fc.asyncProperty(
      fc.array(delay, { minLength: 1, maxLength: 10 }),
      fc.integer({ min: 0, max: 300 }),
      fc.array(fc.oneof({ weight: 20, arbitrary: step }, drain), { maxLength: 40, size: "max" }),
      fc.array(fc.option(fc.nat()), { maxLength: 20, size: "max" }),
      async (delays, maxWaitMs, script, leaveInTurns) => {
        const later: { store?: RemoteStore } = {};
        const store: QuotaStore = {
          take: (...question) => later.store?.take(...question) ?? { granted: false },
          giveBack: (key, cost) => later.store?.giveBack(key, cost),
        };
        const options = { store, burst: 3, maxWaitMs, maxQueued, onStoreError: "refuse" } as const;
        const { clock, limit, enter } = rateScene(options);
        const remote = new RemoteStore(delays, (ms, task) => clock.schedule(ms, task));
        later.store = remote;
        const calls: (Asking & { cost: number; gone: boolean })[] = [];
        const leave = (pick: number) => {
          const call = calls[pick % Math.max(1, calls.length)];
          if (call !== undefined && isQueued(call.entry)) call.gone ||= call.entry.leave();
        };
        const picks = leaveInTurns.values();
        const toldTurn = () => {
          const pick = picks.next().value ?? null;
          if (pick !== null) leave(pick);
        };
        for (const each of script) {
          if (each.op === "enter") {
            const cost = Math.min(3, each.cost);
            calls.push({ ...enter({ ...each, key: "a", cost }, toldTurn), cost, gone: false });
          } else if (each.op === "pass") await clock.pass(each.ms);
          else if (each.op === "leave") leave(each.pick);
          else limit.drain();
          const { queued, asking } = limit.snapshot();
          const waiting = calls.filter((call) => !call.gone && call.fate() === "queued");
          expect(queued + asking).toBe(waiting.length);
          if (each.op === "drain") expect(waiting).toEqual([]);
        }
        await clock.pass(2_000);
        for (const call of calls) {
          expect(call.turns.length).toBe(isQueued(call.entry) && !call.gone ? 1 : 0);
        }
        const admitted = calls.filter((call) => !call.gone && call.fate() === "admitted");
        expect(remote.out).toBe(admitted.reduce((sum, { cost }) => sum + cost, 0));
        const left = calls.filter(({ gone }) => gone).length;
        expect(limit.snapshot()).toMatchObject({
          queued: 0,
          asking: 0,
          admitted: admitted.length,
          left,
          refused: calls.length - admitted.length - left,
        });
        expect(clock.pending).toEqual({ refs: 0, unrefs: 0 });
      },
    ),
    { numRuns: 100 },
  );
});
