// Runs before each test file of `mutants.mjs`: wakes the mutant of the run, and counts which ones the file comes by.
import { Worker } from "node:worker_threads";
import { beforeEach, inject } from "vitest";

const { active, mostPasses, mostSeconds } = inject("mutant");
const passes = {};

globalThis.mutantIsActive = (number) => {
  passes[number] = (passes[number] ?? 0) + 1;
  if (number !== active) return false;
  if (passes[number] > mostPasses) throw new Error("the mutant runs in a loop without end");
  return true;
};

beforeEach(({ task }) => {
  task.file.meta.passes = passes;
});

// A loop that does not come by the mutant ends with its process.
if (globalThis.mutantWatchdog === undefined) {
  const kill = `setTimeout(() => process.kill(${process.pid}, "SIGKILL"), ${mostSeconds * 1_000})`;
  globalThis.mutantWatchdog = new Worker(kill, { eval: true });
  globalThis.mutantWatchdog.unref();
}
