import fc from "fast-check";
import { expect, it } from "vitest";
import type { LeasedQuotaStore } from "../../../src/policies/rate-limit/leases.js";
import { isGranted, type LedgerFate, leaseScene } from "./lease-scene.js";

const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      op: fc.constant("calls" as const),
      by: fc.nat(),
      count: fc.integer({ min: 1, max: 40 }),
      cost: fc.constantFrom(0.5, 1, 1, 1, 3),
      /** How many of them do not use their tokens. */
      back: fc.integer({ min: 0, max: 3 }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      op: fc.constant("pass" as const),
      ms: fc.oneof(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 1, max: 1_500 })),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("close" as const), by: fc.nat() }) },
);

const fates = fc.constantFrom<LedgerFate>("answered", "lost", "refused", "silent");
const rates = fc.record({
  ratePerSecond: fc.constantFrom(1, 20, 300, 5_000),
  burst: fc.constantFrom(3, 10, 100, 2_000),
});
const processes = 4;

/** The largest lease. */
const mostOf = ({ burst }: { readonly burst: number }) => (0.1 * burst < 1 ? 0 : 0.1 * burst);

interface Grant {
  readonly atMs: number;
  readonly cost: number;
  readonly alone: boolean;
}

/** Runs a script by several processes, and collects what they let pass. */
async function run(
  rate: { readonly ratePerSecond: number; readonly burst: number },
  script: readonly (typeof step extends fc.Arbitrary<infer S> ? S : never)[],
  fate: () => LedgerFate,
  latencyMs: number,
) {
  const scene = leaseScene({}, rate, processes);
  const { clock, ledger, stores, take } = scene;
  ledger.fate = fate;
  ledger.latencyMs = latencyMs;
  const grants: Grant[] = [];
  const calls: ReturnType<typeof take>[] = [];
  const pick = (by: number): LeasedQuotaStore => {
    const store = stores[by % processes];
    if (store === undefined) throw new Error("no store");
    return store;
  };
  for (const each of script) {
    for (const store of stores) {
      expect(store.snapshot().leased).toBeLessThanOrEqual(mostOf(rate) + 1e-3);
    }
    if (each.op === "pass") await clock.pass(each.ms);
    else if (each.op === "close") void pick(each.by).close();
    else {
      const store = pick(each.by);
      const made = Array.from({ length: each.count }, () => take(each.cost, store));
      await clock.pass(latencyMs + 1);
      let back = each.back;
      const passed = { shared: 0, alone: 0 };
      for (const call of made) {
        calls.push(call);
        if (!isGranted(call)) continue;
        if (call.answer?.alone === true) passed.alone += each.cost;
        else if (back > 0) {
          back -= 1;
          store.giveBack("k", each.cost, rate);
        } else passed.shared += each.cost;
      }
      const atMs = clock.now();
      grants.push({ atMs, cost: passed.shared, alone: false });
      grants.push({ atMs, cost: passed.alone, alone: true });
    }
  }
  return { ...scene, grants, calls };
}

const sum = (grants: readonly Grant[]) => grants.reduce((total, { cost }) => total + cost, 0);

it("never lets more calls pass than the ledger has granted tokens for, whatever is lost", async () => {
  await fc.assert(
    fc.asyncProperty(
      rates,
      fc.array(step, { maxLength: 40, size: "max" }),
      fc.array(fates, { minLength: 1, maxLength: 20 }),
      fc.constantFrom(1, 8, 70),
      async (rate, script, drawn, latencyMs) => {
        let next = 0;
        const fate = () => drawn[next++ % drawn.length] ?? "answered";
        const { clock, grants, calls, stores } = await run(rate, script, fate, latencyMs);
        const startMs = clock.now();
        await clock.pass(3_000);
        // Every call is answered, and nothing keeps the process alive.
        for (const { answer, error } of calls) expect(answer ?? error).toBeDefined();
        await Promise.all(stores.map((store) => store.close()));
        expect(clock.pending.refs).toBe(0);
        const shared = grants.filter(({ alone }) => !alone);
        const firstMs = 1_000_000;
        const most = mostOf(rate);
        const bound = (ms: number) => rate.burst + (rate.ratePerSecond * ms) / 1_000 + 1e-3;
        expect(sum(shared)).toBeLessThanOrEqual(bound(startMs - firstMs));
        shared.forEach((from, index) => {
          let passed = 0;
          for (const to of shared.slice(index)) {
            passed += to.cost;
            // Grants are seen a little after they are made.
            const ms = to.atMs - from.atMs + latencyMs + 1;
            expect(passed).toBeLessThanOrEqual(bound(ms) + processes * most);
          }
        });
        // Alone, each has a bucket of its own.
        const alone = sum(grants.filter((grant) => grant.alone));
        expect(alone).toBeLessThanOrEqual(processes * bound(startMs - firstMs));
      },
    ),
    { numRuns: 80 },
  );
});

it("lets a call pass when there are tokens, but for those that lie in leases", async () => {
  await fc.assert(
    fc.asyncProperty(
      rates,
      fc.array(step, { maxLength: 40, size: "max" }),
      async (rate, script) => {
        const scene = await run(rate, script, () => "answered", 2);
        const { clock, stores, take, store } = scene;
        // Nobody calls for as long as the bucket needs to be full, and all leases go back.
        await clock.pass(3_000 + (rate.burst * 1_000) / rate.ratePerSecond);
        for (const each of stores) expect(each.snapshot().leased).toBe(0);
        const calls = Array.from({ length: rate.burst + 50 }, () => take(1, store));
        await clock.pass(10);
        const passed = calls.filter(isGranted).length;
        expect(passed).toBeGreaterThanOrEqual(rate.burst);
        expect(passed).toBeLessThanOrEqual(rate.burst + rate.ratePerSecond / 100 + 1);
      },
    ),
    { numRuns: 100 },
  );
});
