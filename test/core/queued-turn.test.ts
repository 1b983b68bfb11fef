import { expect, it } from "vitest";
import { permit } from "../../src/core/permit.js";
import { QueuedTurn } from "../../src/core/queued-turn.js";
import { refusal } from "../../src/core/refusal.js";
import { Semaphore } from "../../src/core/semaphore.js";
import { VirtualClock } from "../../src/testing/virtual-clock.js";
import { permitOf } from "./turns.js";

it("answers with the permit, and waits for nothing, when the semaphore grants it on entering", () => {
  const clock = new VirtualClock();
  const semaphore = new Semaphore<QueuedTurn<string>>({ permits: 1, maxQueued: 1 });
  const turns: unknown[] = [];
  const queued = new QueuedTurn(
    {
      clock,
      maxWaitMs: 100,
      report: (error) => turns.push(error),
      admit: () => permit(() => semaphore.release()),
      giveBack: () => semaphore.release(),
      waitedOut: (_tag, reason) => refusal(reason, ""),
      left: () => {},
    },
    "a call",
    clock.now(),
    Infinity,
    (turn) => turns.push(turn),
  );
  const waiter = semaphore.enqueue(0, queued);
  if (waiter === undefined) throw new Error("the queue is full");
  queued.wait(waiter);
  const entry = queued.entered();
  expect(clock.pending.refs).toBe(0);
  permitOf(entry).settle("success");
  clock.advance(1_000);
  expect(turns).toEqual([]);
  expect(queued.leave()).toBe(false);
  expect(semaphore.running).toBe(0);
});
