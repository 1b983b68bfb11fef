// The incident: three services over real sockets, once with the toolkit and once without it.
// `npm start` builds and runs it. It ends by itself; exit code 0 says that what it shows has been checked.
import { performance } from "node:perf_hooks";
import { Fleet } from "./fleet.js";
import { Progress } from "./progress.js";
import { assemble, play, type RunResult } from "./run.js";
import { type PlannedCall, plan, type Script, scriptAt } from "./script.js";
import { type Column, phaseTable, priorityTable } from "./table.js";
import { orderIdOf, richest, tracesOf, wasRetried } from "./traces.js";
import { verdict } from "./verdict.js";
import { waterfall } from "./waterfall.js";

const seed = 20;
/** Five processes start within this time on a machine of two cores that has little else to do. */
const usualStartMs = 1_800;
const mostStretch = 1.8;

const progress = new Progress(process.stdout);
let fleet: Fleet | undefined;

interface Played extends RunResult {
  readonly script: Script;
  readonly plan: readonly PlannedCall[];
}

/** @param script Left out, it is chosen by how busy the machine is. */
async function run(equipped: boolean, script?: Script): Promise<Played> {
  progress.begin(equipped ? "with the toolkit" : "without it");
  const current = new Fleet(equipped);
  fleet = current;
  const whole = async (): Promise<Played> => {
    progress.says("starting the processes");
    const beganMs = performance.now();
    const cast = await assemble(current);
    const chosen = script ?? scriptAt(stretchFor(performance.now() - beganMs));
    const calls = plan(chosen.phases, seed);
    const played = await play(cast, chosen, calls, progress);
    progress.says("done");
    return { script: chosen, plan: calls, ...played };
  };
  try {
    return await Promise.race([whole(), current.accident]);
  } finally {
    await current.end();
    progress.end();
  }
}

function stretchFor(startMs: number): number {
  const stretch = Math.min(mostStretch, Math.max(1, startMs / usualStartMs));
  return Math.round(stretch * 10) / 10;
}

async function main(): Promise<void> {
  console.log("caller → edge → orders → inventory: checkouts on their way through three services");
  const equipped = await run(true);
  const { script, plan: calls } = equipped;
  const bare = await run(false, script);

  console.log(
    `\n${calls.length} checkouts, each to be answered within ${script.deadlineMs} ms` +
      (script.stretch > 1
        ? `; the machine is busy, so all takes ${script.stretch} times as long`
        : ""),
  );
  const traces = tracesOf(equipped.spans);
  const retried = new Set(traces.filter(wasRetried).map(orderIdOf));
  const withIt: Column = { calls: equipped.calls, retried };
  const without: Column = { calls: bare.calls, retried: new Set() };
  console.log(priorityTable(withIt, without));
  console.log(
    [
      "p50 and p99: milliseconds of the calls that went well; one that a busy machine reads late counts as it is.",
      "shed: refused early, on purpose, low priorities first. retried: how many of the others needed it.",
    ].join("\n"),
  );
  console.log(`\n${phaseTable(script.phases, withIt, without)}`);
  const shown = richest(traces);
  if (shown !== undefined)
    console.log(`\none call of them, trace ${shown.traceId}\n${waterfall(shown)}`);

  const wrong = verdict({ plan: calls, equipped: withIt, bare: without, traces, shown });
  if (wrong.length === 0) return;
  console.error(`\nWhat is shown above is not what this example claims:`);
  for (const reason of wrong) console.error(`- ${reason}`);
  process.exitCode = 1;
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    progress.end();
    const ended = fleet?.end() ?? Promise.resolve();
    void ended.then(() => process.exit(signal === "SIGINT" ? 130 : 143));
  });
}

main().catch((error: unknown) => {
  console.error(
    `The incident could not be played to its end: ${error instanceof Error ? error.message : String(error)}`,
  );
  process.exitCode = 1;
});
