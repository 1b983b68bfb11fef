import { describe, expect, it } from "vitest";
import type { WaitResult } from "../../../src/core/permit.js";
import {
  Bulkhead,
  type BulkheadOptions,
  resolveBulkheadOptions,
} from "../../../src/policies/bulkhead/bulkhead.js";
import {
  type PartitionOptions,
  resolvePartitions,
} from "../../../src/policies/bulkhead/partition-options.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { fateOf, permitOf, queuedOf, refusalOf } from "../../core/turns.js";

function setup(
  shares: Record<string, PartitionOptions> | undefined,
  options: BulkheadOptions = {},
  what?: string,
) {
  const clock = new VirtualClock();
  const limits = resolveBulkheadOptions({ maxConcurrent: 10, maxWaitMs: 1_000, ...options });
  const bulkhead = new Bulkhead(
    limits,
    clock,
    undefined,
    shares && resolvePartitions(shares, limits.maxConcurrent),
    what,
  );
  const enter = (name?: string, weight?: number, withinMs = Infinity, rank = 0) => {
    const turns: WaitResult[] = [];
    const entry = bulkhead.enter(
      rank,
      clock.now() + withinMs,
      (turn) => turns.push(turn),
      weight,
      name,
    );
    return { entry, turns };
  };
  return { clock, bulkhead, enter };
}

const shop = { checkout: { share: 0.5 }, reports: { share: 0.1, maxShare: 0.3 } };

describe("a bulkhead with partitions", () => {
  it("says which is full, what it may have, and how full the whole is", () => {
    const { enter } = setup(shop, { maxWaitMs: 0 });
    for (let n = 0; n < 3; n += 1) permitOf(enter("reports").entry);
    expect(refusalOf(enter("reports").entry)).toEqual({
      kind: "refusal",
      reason: "BULKHEAD_FULL",
      detail:
        "partition reports: running 3 (1 guaranteed, 3 at most), queued 0; in all: running 3 of 10, queued 0 of 100",
    });
  });

  it("says where a call waits, and where it waited in vain", () => {
    const { clock, enter } = setup(shop);
    for (let n = 0; n < 3; n += 1) enter("reports");
    const { entry, turns } = enter("reports");
    expect(queuedOf(entry).detail).toBe("partition reports");
    clock.advance(1_000);
    expect(turns.map(fateOf)).toEqual(["QUEUE_TIMEOUT"]);
    expect(refusalOf(turns[0]).detail).toMatch(/^waited 1000 ms, partition reports: running 3/);
  });

  it("gives back first what it has borrowed", () => {
    const { enter } = setup(shop);
    const borrowed = Array.from({ length: 10 }, () => permitOf(enter().entry));
    const other = enter(undefined, 1, Infinity, 0);
    const own = enter("checkout", 1, Infinity, 3);
    borrowed[0]?.settle("success");
    expect([own.turns.length, other.turns.length]).toEqual([1, 0]);
    borrowed[1]?.settle("success");
    expect(other.turns).toHaveLength(1);
  });

  it("lets the crowd of one fill no other's places", () => {
    const { bulkhead, enter } = setup(shop, { maxQueued: 10 });
    for (let n = 0; n < 30; n += 1) enter("unheard of");
    expect(fateOf(enter("checkout").entry)).toBe("queued");
    expect(bulkhead.snapshot().partitions).toEqual({
      default: {
        guaranteed: 0,
        most: 10,
        running: 10,
        queued: 4,
        admitted: 10,
        refused: 16,
        left: 0,
      },
      checkout: {
        guaranteed: 5,
        most: 10,
        running: 0,
        queued: 1,
        admitted: 0,
        refused: 0,
        left: 0,
      },
      reports: { guaranteed: 1, most: 3, running: 0, queued: 0, admitted: 0, refused: 0, left: 0 },
    });
  });

  it("counts who leaves, and shows the sums of all", () => {
    const { bulkhead, enter } = setup(shop);
    permitOf(enter("checkout", 10).entry);
    queuedOf(enter("reports").entry).leave();
    expect(bulkhead.snapshot()).toMatchObject({
      maxConcurrent: 10,
      running: 10,
      queued: 0,
      admitted: 1,
      refused: 0,
      left: 1,
      partitions: { reports: { left: 1 }, checkout: { running: 10, admitted: 1 } },
    });
  });

  it("refuses all who wait when it closes, whatever their partition", () => {
    const { bulkhead, enter, clock } = setup(shop);
    permitOf(enter("checkout", 10).entry);
    const waiting = ["reports", "checkout", "default"].map((name) => enter(name));
    bulkhead.close();
    expect(waiting.map(({ turns }) => turns.map(fateOf))).toEqual([
      ["CLOSED"],
      ["CLOSED"],
      ["CLOSED"],
    ]);
    expect(clock.pending.refs).toBe(0);
  });

  it("serves a call that comes from inside another's turn after those who waited before it", () => {
    const { bulkhead, enter, clock } = setup({ a: {} }, { maxConcurrent: 1 });
    const running = permitOf(enter("a").entry);
    const order: string[] = [];
    bulkhead.enter(
      0,
      Infinity,
      (turn) => {
        permitOf(turn).settle("success");
        const again = bulkhead.enter(0, Infinity, () => order.push("newcomer"), 1, "a");
        order.push(fateOf(again));
      },
      1,
      "a",
    );
    bulkhead.enter(0, Infinity, (turn) => {
      order.push("waited");
      permitOf(turn).settle("success");
    });
    running.settle("success");
    expect(order).toEqual(["queued", "waited", "newcomer"]);
    expect(bulkhead.snapshot()).toMatchObject({ running: 1, queued: 0 });
    expect(clock.pending.refs).toBe(0);
  });
});

describe("a bulkhead whose calls weigh", () => {
  it("refuses at once what is heavier than it can ever bear, and not others", () => {
    const { enter } = setup(undefined);
    expect(refusalOf(enter(undefined, 11).entry)).toEqual({
      kind: "refusal",
      reason: "BULKHEAD_FULL",
      detail: "the call weighs 11, and there are 10 at most",
    });
    expect(fateOf(enter(undefined, 10).entry)).toBe("admitted");
  });

  it("refuses what is heavier than its partition can ever bear", () => {
    const { enter } = setup(shop);
    expect(refusalOf(enter("reports", 4).entry).detail).toBe(
      "partition reports: the call weighs 4, and there are 3 at most",
    );
  });

  it("refuses a weight that is no number, and stays whole", () => {
    const { bulkhead, enter } = setup(undefined);
    expect(fateOf(enter(undefined, Number.NaN).entry)).toBe("BULKHEAD_FULL");
    expect(bulkhead.snapshot().running).toBe(0);
  });

  it("refuses those who wait and are too heavy after it has shrunk", () => {
    const { bulkhead, enter, clock } = setup(undefined);
    const running = permitOf(enter(undefined, 10).entry);
    const heavy = enter(undefined, 6);
    const light = enter(undefined, 2);
    bulkhead.resize(5);
    expect(refusalOf(heavy.turns[0]).detail).toBe("the call weighs 6, and there are 5 at most");
    running.settle("success");
    expect(light.turns.map(fateOf)).toEqual(["admitted"]);
    expect(clock.pending.refs).toBe(0);
    expect(() => bulkhead.resize(0)).toThrow("maxConcurrent must be a whole number of at least 1");
  });
});

describe("the wait in a bulkhead", () => {
  it.each([
    { maxWaitMs: undefined, withinMs: 60, waitMs: 20, fate: "QUEUE_TIMEOUT" },
    { maxWaitMs: undefined, withinMs: 3_000, waitMs: 100, fate: "QUEUE_TIMEOUT" },
    { maxWaitMs: undefined, withinMs: Infinity, waitMs: 100, fate: "QUEUE_TIMEOUT" },
    { maxWaitMs: 50, withinMs: 60, waitMs: 50, fate: "QUEUE_TIMEOUT" },
    { maxWaitMs: 100, withinMs: 60, waitMs: 60, fate: "DEADLINE_EXPIRED" },
  ])("with maxWaitMs $maxWaitMs and $withinMs ms left lasts $waitMs ms", (row) => {
    const clock = new VirtualClock();
    const { maxWaitMs, withinMs, waitMs, fate } = row;
    const bulkhead = new Bulkhead(
      resolveBulkheadOptions({ maxConcurrent: 1, ...(maxWaitMs !== undefined && { maxWaitMs }) }),
      clock,
    );
    const told: unknown[] = [];
    bulkhead.enter(0, Infinity, () => {});
    bulkhead.enter(0, clock.now() + withinMs, (turn, waitedMs) =>
      told.push(fateOf(turn), waitedMs),
    );
    clock.advance(waitMs - 1);
    expect(told).toEqual([]);
    clock.advance(1);
    expect(told).toEqual([fate, waitMs]);
  });
});

describe("a bulkhead for some calls only", () => {
  it("says for which", () => {
    const { enter } = setup(undefined, { maxConcurrent: 1, maxQueued: 1 }, "streams");
    enter();
    expect(queuedOf(enter().entry).detail).toBe("streams");
    expect(refusalOf(enter().entry).detail).toBe("streams: running 1 of 1, queued 1 of 1");
    expect(refusalOf(enter(undefined, 2).entry).detail).toBe(
      "streams: the call weighs 2, and there are 1 at most",
    );
  });

  it("says for which beside the partition", () => {
    const { enter } = setup({ a: {} }, { maxConcurrent: 1 }, "streams");
    enter("a");
    expect(queuedOf(enter("a").entry).detail).toBe("streams, partition a");
  });
});
