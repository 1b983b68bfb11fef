import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isQueued, isRefusal, type WaitResult } from "../../../src/core/permit.js";
import type { Priority } from "../../../src/core/priority.js";
import type { AdmissionOptions } from "../../../src/policies/admission/options.js";
import { overflowPolicies, queueOrders } from "../../../src/policies/admission/queue.js";
import { admissionScene, callOf, noThresholds } from "./scene.js";

const zero = () => ({ critical: 0, high: 0, normal: 0, low: 0 });

interface Load {
  /** Every so many milliseconds a call of the priority comes. */
  readonly everyMs: Readonly<Partial<Record<Priority, number>>>;
  readonly holdMs: number;
  readonly forMs: number;
}

/** A steady load, and what became of it. */
function play(options: AdmissionOptions, { everyMs, holdMs, forMs }: Load) {
  const { admission, clock } = admissionScene(options);
  const served = zero();
  const refused = zero();
  const longestWaitMs = zero();
  const arrive = (priority: Priority) => {
    const taken = (turn: WaitResult, waitedMs: number) => {
      if (isRefusal(turn)) {
        refused[priority] += 1;
        return;
      }
      served[priority] += 1;
      longestWaitMs[priority] = Math.max(longestWaitMs[priority], waitedMs);
      clock.schedule(holdMs, () => turn.settle("success"));
    };
    const entry = admission.enter(callOf(priority), taken);
    if (!isQueued(entry)) taken(entry, 0);
  };
  for (let atMs = 0; atMs < forMs; atMs += 1) {
    for (const [priority, each] of Object.entries(everyMs)) {
      if (atMs % each === each - 1) arrive(priority as Priority);
    }
    clock.advance(1);
  }
  return { served, refused, longestWaitMs };
}

const thresholds = [undefined, noThresholds, false, { low: 0.3, normal: 0.5, high: 0.6 }] as const;
const configurations = queueOrders.flatMap((order) =>
  overflowPolicies.flatMap((overflow) => thresholds.map((given) => ({ order, overflow, given }))),
);

describe.each(configurations)(
  "minShare in a steady overload of better calls, $order, $overflow, thresholds $given",
  ({ order, overflow, given }) => {
    const options = (minShare: number): AdmissionOptions => ({
      limit: 10,
      maxQueued: 20,
      maxWaitMs: 1_000,
      ...(given === undefined ? {} : { thresholds: given }),
      queue: { order, overflow, minShare },
    });
    // 100 turns a second, for 10 s; of what is owed, a few were not yet.
    const load = { holdMs: 100, forMs: 10_000 };

    it("gives a priority its share of the turns, or all its calls where they are fewer", () => {
      const few = play(options(0.02), { ...load, everyMs: { high: 5, low: 100 } });
      expect(few.served.low).toBeGreaterThanOrEqual(17);
      const all = play(options(0.25), { ...load, everyMs: { high: 5, low: 100 } });
      expect(all.served.low).toBeGreaterThanOrEqual(90);
      expect(few.served.high + few.served.low).toBeGreaterThanOrEqual(980);
    });

    it("gives each of several its own", () => {
      const { served } = play(options(0.05), {
        ...load,
        everyMs: { high: 5, normal: 9, low: 11 },
      });
      expect(served.normal).toBeGreaterThanOrEqual(42);
      expect(served.low).toBeGreaterThanOrEqual(42);
    });

    it("takes nothing from critical calls, and does not hold them up", () => {
      const everyMs = { critical: 20, high: 5, normal: 9, low: 11 };
      const without = play(options(0), { ...load, everyMs });
      const { served, refused, longestWaitMs } = play(options(0.2), { ...load, everyMs });
      expect(refused.critical).toBe(0);
      // But for those that wait at the end.
      expect(served.critical).toBeGreaterThanOrEqual(without.served.critical - 2);
      expect(longestWaitMs.critical).toBeLessThanOrEqual(without.longestWaitMs.critical + 10);
      expect(served.low).toBeGreaterThanOrEqual(90);
    });
  },
);

describe("minShare", () => {
  it("is the whole of what the worst get where only the best priority is served", () => {
    const queue = { minShare: 0.1 };
    const everyMs = { high: 5, low: 5 };
    const { served } = play(
      { limit: 10, maxQueued: 20, maxWaitMs: 1_000, queue },
      { everyMs, holdMs: 100, forMs: 10_000 },
    );
    expect(served.low).toBeGreaterThanOrEqual(95);
    expect(served.low).toBeLessThanOrEqual(105);
  });

  it("holds where nobody waits: a threshold does not keep a priority out for good", () => {
    // Eight of ten slots are always taken by better calls.
    const { served, refused } = play(
      { limit: 10, maxQueued: 0, queue: { minShare: 0.02 } },
      { everyMs: { high: 10, low: 50 }, holdMs: 80, forMs: 10_000 },
    );
    expect(served.low).toBeGreaterThanOrEqual(15);
    expect(refused.low).toBeGreaterThan(0);
  });

  it("of 0 is none: the worst get what the others leave", () => {
    const { served } = play(
      { limit: 10, maxQueued: 20, maxWaitMs: 1_000, queue: { minShare: 0 } },
      { everyMs: { high: 5, low: 100 }, holdMs: 100, forMs: 10_000 },
    );
    expect(served.low).toBeLessThanOrEqual(1);
  });

  it("is not saved up: after a long rush of others a priority has two turns to come", () => {
    const { admission, enter } = admissionScene({
      limit: 10,
      maxQueued: 0,
      queue: { minShare: 0.25 },
    });
    for (let call = 0; call < 1_000; call += 1) {
      const { entry } = enter("critical");
      if ("settle" in entry) entry.settle("success");
    }
    for (let call = 0; call < 8; call += 1) enter("high");
    expect(Array.from({ length: 3 }, () => enter("low").fate)).toEqual([
      "admitted",
      "admitted",
      "LOAD_SHED",
    ]);
    expect(admission.snapshot().running).toBe(10);
  });
});

describe("a refusal before the request is there", () => {
  const arrival = fc.constantFrom<Priority>("critical", "high", "normal", "low");

  it.each(overflowPolicies)(
    "is made of the calls that would be refused if they asked now, %s",
    (overflow) => {
      fc.assert(
        fc.property(
          fc.array(fc.tuple(arrival, fc.nat(20)), { minLength: 50, maxLength: 300, size: "max" }),
          fc.boolean(),
          (arrivals, byThresholds) => {
            const { admission, clock } = admissionScene({
              limit: 3,
              maxQueued: 4,
              maxWaitMs: 500,
              ...(byThresholds ? {} : { thresholds: false }),
              queue: { overflow, minShare: 0.2 },
            });
            for (const [priority, ms] of arrivals) {
              const taken = (turn: WaitResult) => {
                if (!isRefusal(turn)) clock.schedule(40, () => turn.settle("success"));
              };
              const early = admission.check(callOf(priority));
              const entry = admission.enter(callOf(priority), taken);
              expect(early?.reason).toBe(
                isQueued(entry) || !isRefusal(entry) ? undefined : entry.reason,
              );
              if (!isQueued(entry)) taken(entry);
              clock.advance(ms);
            }
          },
        ),
        { numRuns: 50 },
      );
    },
  );
});
