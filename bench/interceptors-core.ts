// The decisions of core are no public names. They are measured at their source, apart from any call.
import { Admission } from "../src/core/admission.js";
import { resolveAdmissionOptions } from "../src/core/admission-options.js";
import { Breaker } from "../src/core/breaker.js";
import { resolveBreakerOptions } from "../src/core/breaker-options.js";
import { Bulkhead, resolveBulkheadOptions } from "../src/core/bulkhead.js";
import { systemClock } from "../src/core/clock.js";
import { PriorityQueue } from "../src/core/priority-queue.js";
import { type FailedAttempt, RetryRules } from "../src/core/retry.js";
import { resolveRetryOptions } from "../src/core/retry-options.js";
import { printTable } from "./report.js";
import { interleaved, type Rounds } from "./rounds.js";
import { lowest, spreadOf } from "./statistics.js";

const rounds: Rounds = { warmUp: 5, kept: 40 };
const decisions = 20_000;

/** How many wait in the queue while one more comes and one goes. */
const waiting = 1_000;

interface Row {
  readonly name: string;
  readonly decide: (number: number) => unknown;
}

/** What a decision costs by itself, and a loop that decides nothing as the peer. */
export async function coreDecisions(): Promise<void> {
  const rows: readonly Row[] = [
    { name: "an empty decision", decide: (number) => number },
    { name: "a reading of the clock", decide: () => systemClock.now() },
    { name: "breaker: acquire and settle", decide: breaker() },
    { name: "bulkhead: enter and settle", decide: bulkhead() },
    { name: "admission: enter and settle", decide: admission() },
    { name: "retry: decide", decide: retry() },
    { name: `priority queue of ${waiting}: push and pop`, decide: queue() },
  ];
  const measured = await interleaved(rows, rounds, ({ decide }) => {
    const before = process.cpuUsage();
    for (let number = 0; number < decisions; number += 1) decide(number);
    const { user, system } = process.cpuUsage(before);
    return ((user + system) * 1_000) / decisions;
  });
  console.log(`\nDecisions of core, ${decisions} a turn, taking turns in the same way:\n`);
  printTable(
    ["decision", "median ns", "quietest ns"],
    [...measured].map(([row, costs]) => [
      row.name,
      spreadOf(costs).median.toFixed(0),
      lowest(costs).toFixed(0),
    ]),
  );
}

function breaker(): Row["decide"] {
  const policy = new Breaker(resolveBreakerOptions({}), systemClock);
  return () => {
    const entry = policy.acquire();
    if ("settle" in entry) entry.settle("success");
  };
}

function bulkhead(): Row["decide"] {
  const policy = new Bulkhead(resolveBulkheadOptions({}), systemClock);
  return () => {
    const entry = policy.enter(2, Number.POSITIVE_INFINITY, () => {});
    if ("settle" in entry) entry.settle("success");
  };
}

function admission(): Row["decide"] {
  const options = resolveAdmissionOptions({ limit: 100 });
  const policy = new Admission(options, systemClock, Math.random);
  const call = {
    priority: "normal",
    cohort: 0,
    deadlineMs: Number.POSITIVE_INFINITY,
    neededMs: 0,
  } as const;
  return () => {
    const entry = policy.enter(call, () => {});
    if ("settle" in entry) entry.settle("success");
  };
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
    remainingMs: 10_000,
    replayable: true,
  };
  return () => rules.decide(failed);
}

function queue(): Row["decide"] {
  const waiters = new PriorityQueue<number>();
  for (let number = 0; number < waiting; number += 1) waiters.push(number, number % 4);
  return (number) => {
    waiters.push(number, number % 4);
    return waiters.popFirst();
  };
}
