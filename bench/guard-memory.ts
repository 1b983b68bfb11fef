import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { createWeir } from "grpc-weir";
import { work } from "./guard-contestants.js";
import { printTable } from "./report.js";

setFlagsFromString("--expose-gc");
const collect: () => void = runInNewContext("gc");

const options = {
  timeouts: { totalMs: 60_000 },
  breaker: {},
  bulkhead: { maxConcurrent: 1_000_000 },
  retry: {},
} as const;

/** Bytes in use once all garbage is gone. */
async function inUse(): Promise<number> {
  // Timers and microtasks first; what they hold is garbage only then.
  for (let round = 0; round < 3; round += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    collect();
  }
  return process.memoryUsage().heapUsed;
}

/**
 * What runs of a guard with all policies leave behind, and hold. Nothing may grow with the number of runs that were
 * made; what waits may hold as much for each as it does when few wait.
 */
export async function guardMemory(): Promise<void> {
  console.log("memory of a guard with all policies, in bytes of heap after a collection\n");
  const rows: string[][] = [];
  const weir = createWeir();
  const guard = weir.guard("left", options);
  await Promise.all(Array.from({ length: 1_000 }, () => guard.run(work)));
  for (const made of [100_000, 1_000_000]) {
    const before = await inUse();
    for (let done = 0; done < made; done += 100) {
      await Promise.all(Array.from({ length: 100 }, () => guard.run(work)));
    }
    const left = (await inUse()) - before;
    rows.push([`left behind by ${made} runs`, left.toFixed(0), (left / made).toFixed(3)]);
  }
  for (const underWay of [100, 1_000, 10_000]) {
    rows.push(await held(`held by ${underWay} runs under way`, underWay, 1_000_000));
  }
  for (const queued of [100, 1_000, 10_000]) {
    rows.push(await held(`held by ${queued} runs in the queue`, queued, 1));
  }
  printTable(["", "bytes", "for each"], rows);
}

/** What runs hold while their work does not end; the bulkhead may make all but one of them wait. */
async function held(name: string, runs: number, maxConcurrent: number): Promise<string[]> {
  const guard = createWeir().guard("held", {
    ...options,
    bulkhead: { maxConcurrent, maxQueued: runs, maxWaitMs: 60_000 },
  });
  let end: () => void = () => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const waitsForEnd = () => ended;
  await guard.run(work);
  const before = await inUse();
  const all = Promise.all(Array.from({ length: runs }, () => guard.run(waitsForEnd)));
  const bytes = (await inUse()) - before;
  end();
  await all;
  return [name, bytes.toFixed(0), (bytes / runs).toFixed(0)];
}
