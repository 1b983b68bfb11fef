import { expect, it } from "vitest";
import { permit, refusal } from "../../../src/core/permit.js";
import { SemaphoreWaiter } from "../../../src/core/queue/waiting-call.js";
import { unpartitioned } from "../../../src/policies/bulkhead/partition-options.js";
import { Partitions } from "../../../src/policies/bulkhead/partitions.js";
import { VirtualClock } from "../../../src/testing/clock/virtual-clock.js";
import { permitOf } from "../turns.js";

it("answers with the permit, and waits for nothing, when the semaphore grants it on entering", () => {
  const clock = new VirtualClock();
  const partitions = new Partitions<SemaphoreWaiter<string>>(
    { permits: 1, maxQueued: 1 },
    unpartitioned,
  );
  const { unnamed } = partitions;
  const turns: unknown[] = [];
  const queued = new SemaphoreWaiter(
    {
      clock,
      longestWaitMs: () => 100,
      report: (error) => turns.push(error),
      admit: () => permit(() => partitions.release(unnamed, 1)),
      giveBack: () => partitions.release(unnamed, 1),
      waitedOut: (_tag, reason) => refusal(reason, ""),
      left: () => {},
    },
    "a call",
    clock.now(),
    Infinity,
    (turn) => turns.push(turn),
  );
  const waiter = partitions.enqueue(unnamed, 0, 1, queued);
  if (waiter === undefined) throw new Error("the queue is full");
  queued.wait(waiter);
  const entry = queued.entered();
  expect(clock.pending.refs).toBe(0);
  permitOf(entry).settle("success");
  clock.advance(1_000);
  expect(turns).toEqual([]);
  expect(queued.leave()).toBe(false);
  expect(partitions.running).toBe(0);
});
