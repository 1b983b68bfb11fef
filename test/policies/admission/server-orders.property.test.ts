import fc from "fast-check";
import { describe, expect, it } from "vitest";
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
import { overflowPolicies, queueOrders } from "../../../src/policies/admission/queue.js";
import { QueueBounds } from "../../../src/policies/admission/queue-bounds.js";
import type { Limit } from "../../../src/policies/limits/limit.js";
import { seededRandom } from "../../../src/testing/clock/seeded-random.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { permitOf, refusalOf } from "../../core/turns.js";
import { admissionScene, noThresholds } from "./scene.js";

interface Call extends AdmissionCall {
  readonly sinceMs: number;
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
      neededMs: fc.constantFrom(0, 0, 10, 100),
    }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("settle" as const), pick }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("leave" as const), pick }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("relimit" as const), pick }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant("advance" as const),
      ms: fc.integer({ min: 1, max: 25 }),
    }),
  },
);

const options = fc.record({
  first: fc.integer({ min: 1, max: 5 }),
  maxConcurrent: fc.constantFrom(1, 3, 5, undefined),
  maxQueued: fc.constantFrom(0, 1, 4, undefined),
  maxWaitMs: fc.constantFrom(0, 20, 60, undefined),
  criticalHeadroom: fc.constantFrom(0, 0.1, 0.5),
  minShare: fc.constantFrom(0, 0.02, 0.25),
  maxAgeMs: fc.constantFrom(0, 15),
});

const each = queueOrders.flatMap((order) =>
  overflowPolicies.map((overflow) => [order, overflow] as const),
);

describe.each(each)("admission in %s order, which makes room by %s", (order, overflow) => {
  it("loses nobody, serves nobody twice, and keeps its bounds while the limit moves", () => {
    fc.assert(
      fc.property(options, fc.array(step, { maxLength: 120, size: "max" }), (chosen, script) => {
        const clock = new VirtualClock();
        const failures: unknown[] = [];
        const { first, maxConcurrent, maxQueued, maxWaitMs, criticalHeadroom } = chosen;
        const learnt = { current: first, record: () => {} } satisfies Limit;
        const targetMs = 5;
        const resolved = resolveAdmissionOptions({
          limit: learnt,
          criticalHeadroom,
          thresholds: false,
          ...(maxConcurrent === undefined ? {} : { maxConcurrent }),
          ...(maxQueued === undefined ? {} : { maxQueued }),
          ...(maxWaitMs === undefined ? {} : { maxWaitMs }),
          queue: {
            order,
            overflow,
            minShare: chosen.minShare,
            maxAgeMs: chosen.maxAgeMs,
            intervalMs: 10,
            targetMs,
          },
        });
        // The shortest that anybody is let wait.
        const patience = new QueueBounds(
          resolved,
          { ms: undefined },
          { count: 1, atBestIn: () => 1 },
        );
        patience.setStanding(true);
        const admission = new Admission(resolved, clock, seededRandom(1), {
          report: (error) => failures.push(error),
        });
        const hardCap = maxConcurrent ?? Infinity;
        const calls: Call[] = [];
        const holding = new Set<Call>();
        const waiting = new Set<Call>();
        const bounds = () => {
          const count = Math.min(learnt.current, hardCap);
          const most = Math.min(count + Math.ceil(count * criticalHeadroom - 1e-9), hardCap);
          return { count, most, places: maxQueued ?? Math.max(16, count) };
        };
        let places = bounds().places;
        // What has been let in or queued under a higher limit stays.
        let most = bounds().most;

        const taken = (call: Call, turn: WaitResult, entering: boolean) => {
          const waitedMs = clock.now() - call.sinceMs;
          call.turns += 1;
          waiting.delete(call);
          if (!isRefusal(turn)) {
            call.permit = turn;
            holding.add(call);
            expect(clock.now()).toBeLessThan(call.deadlineMs);
            if (!entering) {
              expect(call.deadlineMs - clock.now()).toBeGreaterThanOrEqual(call.neededMs);
            }
            return;
          }
          const worse = [...waiting].filter(({ priority }) => priority !== "critical");
          const reason: string = turn.reason;
          switch (reason) {
            case "CONCURRENCY_LIMIT":
              expect(entering).toBe(true);
              if (call.priority === "critical" && resolved.maxWaitMs > 0) expect(worse).toEqual([]);
              break;
            case "LOAD_SHED":
              // It gave its place away; nobody does who is critical.
              expect(entering).toBe(false);
              expect(call.priority).not.toBe("critical");
              break;
            case "QUEUE_TIMEOUT": {
              const leftMs = call.deadlineMs - call.sinceMs;
              const waitMs = patience.longestWaitMs(call.priority, leftMs);
              const overtaken =
                order === "adaptive-lifo" && call.priority !== "critical" && waitedMs > targetMs;
              expect(waitedMs >= waitMs - 1e-6 || overtaken).toBe(true);
              break;
            }
            case "DEADLINE_EXPIRED":
              expect(clock.now()).toBeGreaterThanOrEqual(call.deadlineMs - 1e-6);
              break;
            case "DEADLINE_INFEASIBLE":
              expect(entering).toBe(false);
              expect(call.deadlineMs - clock.now()).toBeLessThan(call.neededMs);
              break;
            default:
              expect(reason).toBe("DRAINING");
          }
        };
        const arrive = (priority: Priority, withinMs: number, neededMs: number) => {
          const sinceMs = clock.now();
          const deadlineMs = sinceMs + withinMs;
          const own = { priority, cohort: 0, deadlineMs, neededMs, sinceMs };
          const call: Call = { ...own, place: undefined, permit: undefined, turns: 0, left: false };
          calls.push(call);
          const entry = admission.enter(call, (turn) => taken(call, turn, false));
          if (!isQueued(entry)) return taken(call, entry, true);
          call.place = entry;
          waiting.add(call);
        };
        const settle = (call: Call) => {
          holding.delete(call);
          call.permit?.settle("success");
          call.permit?.settle("failure");
        };
        const check = () => {
          const { running, queued } = admission.snapshot();
          expect([running, queued]).toEqual([holding.size, waiting.size]);
          expect(running).toBeLessThanOrEqual(most);
          expect(running).toBeLessThanOrEqual(hardCap);
          expect(queued).toBeLessThanOrEqual(places);
        };

        for (const next of script) {
          switch (next.op) {
            case "arrive":
              arrive(next.priority, next.withinMs, next.neededMs);
              break;
            case "settle": {
              const call = [...holding][next.pick % Math.max(1, holding.size)];
              if (call !== undefined) settle(call);
              break;
            }
            case "leave": {
              const call = calls[next.pick % Math.max(1, calls.length)];
              if (call?.place === undefined) break;
              const waited = waiting.delete(call);
              expect(call.place.leave()).toBe(waited);
              call.left ||= waited;
              break;
            }
            case "relimit":
              learnt.current = 1 + (next.pick % 6);
              most = Math.max(holding.size, bounds().most);
              places = Math.max(waiting.size, bounds().places);
              break;
            case "advance":
              clock.advance(next.ms);
          }
          check();
        }
        for (const call of holding) settle(call);
        clock.advance(1_000);
        for (const call of holding) settle(call);
        admission.drain();
        check();
        const { running, queued, admitted, refused, left } = admission.snapshot();
        expect({ running, queued }).toEqual({ running: 0, queued: 0 });
        expect(clock.pending.refs).toBe(0);
        for (const call of calls) expect(call.turns).toBe(call.left ? 0 : 1);
        for (const priority of priorities) {
          const arrived = calls.filter((call) => call.priority === priority).length;
          expect(admitted[priority] + refused[priority] + left[priority]).toBe(arrived);
        }
        expect(failures).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });
});

/** A queue that is never empty: how many turns each priority gets of so many, one call at a time. */
function turnsOf(order: "priority" | "adaptive-lifo", minShare: number, rounds: number) {
  const scene = admissionScene({
    limit: 1,
    criticalHeadroom: 0,
    maxQueued: 12,
    maxWaitMs: 1_000_000,
    thresholds: noThresholds,
    queue: { order, minShare, overflow: "reject-new" },
  });
  const waiting: { readonly priority: Priority; readonly call: ReturnType<typeof scene.enter> }[] =
    [];
  const served = { critical: 0, high: 0, normal: 0, low: 0 };
  const add = (priority: Priority) => waiting.push({ priority, call: scene.enter(priority) });
  let permit = permitOf(scene.enter().entry);
  for (const priority of ["high", "normal", "low"] as const)
    for (let n = 0; n < 4; n += 1) add(priority);
  for (let round = 0; round < rounds; round += 1) {
    permit.settle("success");
    const index = waiting.findIndex(({ call }) => call.fate === "admitted");
    const [next] = waiting.splice(index, 1);
    if (next === undefined) throw new Error("nobody was served");
    served[next.priority] += 1;
    permit = permitOf(next.call.turns[0]);
    add(next.priority);
  }
  return served;
}

describe("a share of the turns", () => {
  it.each([0.02, 0.1, 0.25])("of %d is what each lower priority gets, and no more", (minShare) => {
    fc.assert(
      fc.property(fc.integer({ min: 200, max: 1_000 }), (rounds) => {
        const { high, normal, low } = turnsOf("priority", minShare, rounds);
        for (const turns of [normal, low]) {
          expect(turns).toBeGreaterThanOrEqual(Math.floor(rounds * minShare) - 2);
          expect(turns).toBeLessThanOrEqual(Math.ceil(rounds * minShare) + 2);
        }
        expect(high).toBe(rounds - normal - low);
      }),
      { numRuns: 8 },
    );
  });

  it("of nothing leaves the lower ones to starve", () => {
    expect(turnsOf("priority", 0, 300)).toMatchObject({ high: 300, normal: 0, low: 0 });
  });
});

describe("the hard cap", () => {
  it("holds for critical calls with their headroom too", () => {
    const { admission, enterMany } = admissionScene({
      limit: 10,
      maxConcurrent: 4,
      criticalHeadroom: 1,
      maxQueued: 10,
      thresholds: false,
    });
    const fates = enterMany(6, "critical").map(({ fate }) => fate);
    expect(fates).toEqual([...Array(4).fill("admitted"), "queued", "queued"]);
    expect(admission.snapshot()).toMatchObject({ limit: 4, running: 4, queued: 2 });
    admission.resize(100);
    expect(admission.snapshot()).toMatchObject({ limit: 4, running: 4, queued: 2 });
  });
});

describe("adaptive-lifo", () => {
  const standing = () => {
    const scene = admissionScene({
      limit: 1,
      criticalHeadroom: 0,
      maxQueued: 10,
      maxWaitMs: 10_000,
      thresholds: false,
      queue: { order: "adaptive-lifo", intervalMs: 100, targetMs: 5, minShare: 0 },
    });
    const running = permitOf(scene.enter().entry);
    return { ...scene, running };
  };

  it("serves by arrival while the queue is a burst", () => {
    const { clock, enter, running } = standing();
    const calls = [enter(), enter()];
    clock.advance(100);
    running.settle("success");
    expect(calls.map(({ fate }) => fate)).toEqual(["admitted", "queued"]);
  });

  it("serves the newest of a standing queue first, and drops who has waited longer than the target", () => {
    const { clock, enter, running, admission } = standing();
    const old = [enter(), enter()];
    const critical = enter("critical");
    clock.advance(101);
    const fresh = [enter(), enter()];
    running.settle("success");
    expect(critical.fate).toBe("admitted");
    permitOf(critical.turns[0]).settle("success");
    expect(fresh.map(({ fate }) => fate)).toEqual(["queued", "admitted"]);
    permitOf(fresh[1]?.turns[0]).settle("success");
    expect(fresh[0]?.fate).toBe("admitted");
    expect(old.map(({ fate }) => fate)).toEqual(["queued", "queued"]);
    permitOf(fresh[0]?.turns[0]).settle("success");
    // Nobody of them was worth the slot: all are told at once, and that another try is.
    expect(old.map(({ fate }) => fate)).toEqual(["QUEUE_TIMEOUT", "QUEUE_TIMEOUT"]);
    expect(refusalOf(old[0]?.turns[0])).toHaveProperty("retryAfterMs");
    expect(admission.snapshot()).toMatchObject({ running: 0, queued: 0, refused: { normal: 2 } });
    expect(clock.pending.refs).toBe(0);
  });
});

describe("how long a call may wait", () => {
  it("is a third of the time that it comes with, unless somebody has said", () => {
    for (const [options, waitMs] of [
      [{}, 40],
      [{ maxWaitMs: 80 }, 80],
      [{ maxWaitMs: 100 }, 100],
    ] as const) {
      const { clock, enter } = admissionScene({ limit: 1, ...options });
      enter();
      const waiting = enter("normal", 120);
      clock.advance(waitMs - 1);
      expect(waiting.fate).toBe("queued");
      clock.advance(1);
      expect(waiting.fate).toBe("QUEUE_TIMEOUT");
    }
  });

  it("is a second where the deadline is far or there is none, and 100 ms where others wait already for so long", () => {
    const { clock, enter } = admissionScene({ limit: 5, criticalHeadroom: 0, thresholds: false });
    for (let slot = 0; slot < 5; slot += 1) enter();
    const burst = [enter("normal", 60_000), enter()];
    clock.advance(101);
    const late = [enter("normal", 60_000), enter(), enter("critical")];
    const fates = () => [...burst, ...late].map(({ fate }) => fate);
    clock.advance(99);
    expect(fates()).toEqual(["queued", "queued", "queued", "queued", "queued"]);
    clock.advance(1);
    expect(fates()).toEqual(["queued", "queued", "QUEUE_TIMEOUT", "QUEUE_TIMEOUT", "queued"]);
    clock.advance(798);
    expect(fates().slice(0, 2)).toEqual(["queued", "queued"]);
    clock.advance(1);
    expect(fates().slice(0, 2)).toEqual(["QUEUE_TIMEOUT", "QUEUE_TIMEOUT"]);
  });
});

describe("the length of the queue", () => {
  it("follows a limit that is learnt, and is never shorter than 16", () => {
    const clock = new VirtualClock();
    const learnt = { current: 40, record: () => {} };
    const options = resolveAdmissionOptions({ limit: learnt, thresholds: false });
    const admission = new Admission(options, clock, () => 0);
    const length = () => admission.snapshot().maxQueued;
    expect(length()).toBe(40);
    learnt.current = 100;
    expect(length()).toBe(100);
    learnt.current = 3;
    expect(length()).toBe(16);
    const enter = () =>
      admission.enter(
        { priority: "normal", cohort: 0, deadlineMs: Infinity, neededMs: 0 },
        () => {},
      );
    const entries = Array.from({ length: 20 }, enter);
    expect(entries.filter(isQueued)).toHaveLength(16);
    expect(admission.snapshot()).toMatchObject({ running: 3, queued: 16 });
    admission.drain();
  });
});

describe("a call whose turn comes too late", () => {
  it("gives its slot to the next when too little time is left for such calls", () => {
    const { clock, enter, admission } = admissionScene({
      limit: 1,
      criticalHeadroom: 0,
      maxQueued: 5,
      maxWaitMs: 1_000,
      thresholds: false,
    });
    const running = permitOf(enter().entry);
    const late = enter("high", 100, 50);
    const critical = enter("critical", 100, 50);
    const next = enter("normal", 100, 49);
    clock.advance(51);
    running.settle("success");
    for (const call of [late, critical]) {
      expect(call.fate).toBe("DEADLINE_INFEASIBLE");
      expect(refusalOf(call.turns[0])).not.toHaveProperty("retryAfterMs");
    }
    expect(next.fate).toBe("admitted");
    permitOf(next.turns[0]).settle("success");
    expect(admission.snapshot()).toMatchObject({ running: 0, queued: 0 });
    expect(clock.pending.refs).toBe(0);
  });
});
