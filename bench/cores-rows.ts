// The decisions of core are no public names. They are measured at their source, apart from any call.

import { type Clock, systemClock } from "../src/core/clock.js";
import type { Permit, Queued, Refusal } from "../src/core/permit.js";
import { PriorityQueue } from "../src/core/queue/priority-queue.js";
import { Admission } from "../src/policies/admission/admission.js";
import { resolveAdmissionOptions } from "../src/policies/admission/options.js";
import { Breaker } from "../src/policies/breaker/breaker.js";
import { resolveBreakerOptions } from "../src/policies/breaker/options.js";
import { Bulkhead, resolveBulkheadOptions } from "../src/policies/bulkhead/bulkhead.js";
import { TokenBucket } from "../src/policies/rate-limit/token-bucket.js";
import { RetryBudget, resolveRetryBudgetOptions } from "../src/policies/retry/budget.js";
import { resolveRetryOptions } from "../src/policies/retry/options.js";
import { type FailedAttempt, RetryRules } from "../src/policies/retry/rules.js";
import { resolveThrottleOptions } from "../src/policies/throttle/options.js";
import { Throttle } from "../src/policies/throttle/throttle.js";

/** A decision and its end, to be made again and again. */
export interface Row {
  readonly name: string;
  readonly decide: (number: number) => unknown;
}

/** How many wait in the queue while one more comes and one goes. */
const waiting = 1_000;

/** No breaker leaves its state while the bench runs. */
const restMs = 24 * 60 * 60 * 1_000;

/** The system's clock, without its timers: those are no decisions, and a queue sets one for each that waits. */
const clockAlone: Clock = { ...systemClock, schedule: () => () => {} };

/** With its timers, which keep no process alive: those who still wait when the bench ends are not waited for. */
const clockWithTimers: Clock = {
  ...systemClock,
  schedule: (delayMs, task) => systemClock.schedule(delayMs, task, { ref: false }),
};

/** Add a row here. */
export const rows: readonly Row[] = [
  { name: "an empty decision", decide: (number) => number },
  { name: "a reading of the clock", decide: () => systemClock.now() },
  { name: "breaker closed: acquire and settle", decide: breakerClosed() },
  { name: "breaker closed, in a row alone: acquire and settle", decide: breakerInARow() },
  { name: "breaker open: refuse", decide: breakerOpen() },
  { name: "bulkhead with room: enter and settle", decide: bulkheadFree() },
  { name: "bulkhead full: refuse", decide: bulkheadFull() },
  { name: `bulkhead, ${waiting} wait: queue one, serve one`, decide: bulkheadQueued(clockAlone) },
  { name: "the same, with its timer", decide: bulkheadQueued(clockWithTimers) },
  { name: "admission with room: enter and settle", decide: admission() },
  { name: "retry: decide", decide: retry() },
  { name: "retry budget: a call and its success", decide: budgetCall() },
  { name: "retry budget: withdraw and give back", decide: budgetWithdraw() },
  { name: "throttle: acquire and settle", decide: throttle() },
  { name: "token bucket: take", decide: tokenBucket() },
  { name: `priority queue of ${waiting}: push and pop`, decide: queue() },
];

function settle(entry: Permit | Refusal | Queued): void {
  if ("settle" in entry) entry.settle("success");
}

function breakerClosed(): Row["decide"] {
  const breaker = new Breaker(resolveBreakerOptions({}), systemClock);
  return () => settle(breaker.acquire());
}

function breakerInARow(): Row["decide"] {
  const breaker = new Breaker(resolveBreakerOptions({ failureRate: false }), systemClock);
  return () => settle(breaker.acquire());
}

function breakerOpen(): Row["decide"] {
  const options = { consecutiveFailures: 1, openMs: restMs, maxOpenMs: restMs };
  const breaker = new Breaker(resolveBreakerOptions(options), systemClock);
  const permit = breaker.acquire();
  if ("settle" in permit) permit.settle("failure");
  return () => breaker.acquire();
}

function bulkheadFree(): Row["decide"] {
  const bulkhead = new Bulkhead(resolveBulkheadOptions({}), systemClock);
  const onGranted = () => {};
  return () => settle(bulkhead.enter(2, Number.POSITIVE_INFINITY, onGranted));
}

function bulkheadFull(): Row["decide"] {
  const bulkhead = new Bulkhead(
    resolveBulkheadOptions({ maxConcurrent: 1, maxQueued: 0 }),
    systemClock,
  );
  const onGranted = () => {};
  bulkhead.enter(2, Number.POSITIVE_INFINITY, onGranted);
  return () => bulkhead.enter(2, Number.POSITIVE_INFINITY, onGranted);
}

function bulkheadQueued(clock: Clock): Row["decide"] {
  const options = { maxConcurrent: 1, maxQueued: waiting + 1, maxWaitMs: restMs };
  const bulkhead = new Bulkhead(resolveBulkheadOptions(options), clock);
  let running: Permit | undefined;
  const take = (turn: Permit | Refusal | Queued) => {
    if ("settle" in turn) running = turn;
  };
  const enter = (number: number) =>
    take(bulkhead.enter(number % 4, Number.POSITIVE_INFINITY, take));
  for (let filler = 0; filler <= waiting; filler += 1) enter(filler);
  return (number) => {
    enter(number);
    running?.settle("success");
  };
}

function admission(): Row["decide"] {
  const policy = new Admission(resolveAdmissionOptions({ limit: 100 }), systemClock, Math.random);
  const call = {
    priority: "normal",
    cohort: 0,
    deadlineMs: Number.POSITIVE_INFINITY,
    neededMs: 0,
  } as const;
  return () => settle(policy.enter(call, () => {}));
}

function retry(): Row["decide"] {
  const rules = new RetryRules(resolveRetryOptions({ idempotent: true }), Math.random);
  const failed: FailedAttempt = {
    code: 14,
    origin: "remote",
    attempts: 1,
    trailersOnly: true,
    pushback: undefined,
    retryInfoMs: undefined,
    handlerNotRun: false,
    depth: 0,
    remainingMs: 10_000,
    replayable: true,
  };
  return () => rules.decide(failed);
}

function budgetCall(): Row["decide"] {
  const budget = new RetryBudget(resolveRetryBudgetOptions(), systemClock);
  return () => {
    budget.call();
    budget.success();
  };
}

function budgetWithdraw(): Row["decide"] {
  const budget = new RetryBudget(resolveRetryBudgetOptions(), systemClock);
  return () => {
    if (budget.tryWithdraw() === undefined) budget.giveBack();
  };
}

function throttle(): Row["decide"] {
  const policy = new Throttle(resolveThrottleOptions({}), systemClock, Math.random);
  return () => settle(policy.acquire(2));
}

function tokenBucket(): Row["decide"] {
  const bucket = new TokenBucket({ ratePerSecond: 1e9, burst: 1e9 });
  return () => bucket.take(1, systemClock.now());
}

function queue(): Row["decide"] {
  const waiters = new PriorityQueue<number>();
  for (let number = 0; number < waiting; number += 1) waiters.push(number, number % 4);
  return (number) => {
    waiters.push(number, number % 4);
    const next = waiters.first();
    return next !== undefined && waiters.remove(next);
  };
}
