// The incident: three services over real sockets, with the toolkit, with grpc-js's own retries, and with neither.
// `npm start` builds and runs it. On a terminal it opens a page that shows the calls as they happen, and stays until it is
// stopped; so it does with `--watch`. Elsewhere, and with `--once`, it ends by itself. Exit code 0 says that what it shows has been checked.
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { consoleTree, type TraceViewer, traceViewer } from "grpc-weir/viewer";
import { Fleet } from "./fleet.js";
import { watchLateness } from "./lateness.js";
import { Live } from "./live.js";
import type { CallResult } from "./messages.js";
import { paintFor } from "./paint.js";
import { Progress } from "./progress.js";
import { assemble, become, type Cast, play, type RunResult, stop } from "./run.js";
import { deadlineMs, type PlannedCall, phases, plan } from "./script.js";
import { phaseTable, priorityTable } from "./table.js";
import { orderIdOf, richest, tracesOf, viewsOf } from "./traces.js";
import { type Shown, summary, verdict, waitedForProcessor } from "./verdict.js";
import { explanations, titles, type Way, ways } from "./ways.js";

const seed = 20;

const paint = paintFor(process.stdout);
const progress = new Progress(process.stdout);
const { once, port } = readArguments();
/** Absent where the incident is played once. */
const live = once ? undefined : new Live();
const viewer = live === undefined ? undefined : await openViewer(live);
const fleets: Readonly<Record<Way, Fleet>> = {
  toolkit: new Fleet("toolkit", viewer?.otlp?.http),
  retryPolicy: new Fleet("retryPolicy"),
  bare: new Fleet("bare"),
};

/** By how much this process was late in directing the others, at most. */
let ownLateMs = 0;

/** The incident is over, and what it shows has been checked. */
let played = false;

type Played = Readonly<Record<Way, RunResult>>;

async function main(): Promise<void> {
  const calls = plan(seed);
  console.log(
    [
      `${paint.strong("An incident:")} ${calls.length} checkouts go from a caller through edge and orders to inventory, which gets into trouble.`,
      `A checkout is served when it succeeds within ${deadlineMs / 1_000} s. Three copies of the services get the same calls at the same times:`,
      ...ways.map((way) => `  ${paint.strong(titles[way].padEnd(13))} ${explanations[way]}`),
      "",
      ...(viewer === undefined ? [] : [`Watch it: ${paint.strong(`${viewer.url}/#/compare`)}`, ""]),
    ].join("\n"),
  );
  const { toolkit, retryPolicy, bare } = await playAll(calls);
  const results = { toolkit: toolkit.calls, retryPolicy: retryPolicy.calls, bare: bare.calls };

  const lateMs = Math.max(ownLateMs, toolkit.lateMs, retryPolicy.lateMs, bare.lateMs);
  const waited = waitedForProcessor(lateMs);
  if (waited !== undefined) {
    const busy = `The machine was busy: ${waited}.`;
    console.log(
      `${paint.bad(busy)}\nThe numbers below say little about the three ways. Run it again when the machine is idle.\n`,
    );
  }
  console.log(`${phaseTable(results, paint)}\n`);
  console.log(
    [
      priorityTable(results, paint),
      paint.faint(
        "shed: refused early, on purpose, low priorities first. fail: failed, or not in time. p50, p99: ms until a call was served.",
      ),
    ].join("\n"),
  );

  const lost = lostOf(retryPolicy.calls);
  const lostBare = lostOf(bare.calls);
  const traces = tracesOf(toolkit.spans);
  const saved =
    richest(traces, (orderId) => lost.has(orderId) && lostBare.has(orderId)) ??
    richest(traces, (orderId) => lost.has(orderId) || lostBare.has(orderId));
  if (saved !== undefined) {
    const orderId = orderIdOf(saved);
    const others = [
      `${titles.retryPolicy}: ${lost.get(orderId) ?? "OK"}`,
      `${titles.bare}: ${lostBare.get(orderId) ?? "OK"}`,
    ].join(", ");
    console.log(
      `\n${paint.strong(`A critical call that was saved: ${orderId}`)} (${others})\n${consoleTree(viewsOf(saved))}`,
    );
  }
  console.log(`\n${paint.strong(summary(results))}`);

  check({ plan: calls, results, lateMs, saved });
  played = true;
  const all = [toolkit, retryPolicy, bare];
  if (live === undefined || viewer === undefined) {
    await Promise.all(all.flatMap(({ shop, inventory }) => [stop(shop), stop(inventory)]));
    return;
  }
  live.open(results, {
    flow(callsPerSecond) {
      for (const { shop } of all) shop.tell({ type: "flow", callsPerSecond });
    },
    become(conditions) {
      for (const { inventory } of all) become(inventory, conditions);
    },
  });
  console.log(
    `\nThe page has all of it, and sliders for another incident: ${paint.strong(viewer.url)}\nCtrl-C ends it.`,
  );
  await Promise.race(accidents());
}

/** Says what is not as this example claims. That is its exit code, too. */
function check(shown: Shown): void {
  const wrong = verdict(shown);
  if (wrong.length === 0) return;
  console.error(paint.bad("\nNot all of this is as it should be:"));
  for (const reason of wrong) console.error(`- ${reason}`);
  process.exitCode = 1;
}

/** Of the calls that were not served, the status by the id of the order. */
function lostOf(calls: readonly CallResult[]): ReadonlyMap<string, string> {
  return new Map(
    calls.filter(({ end }) => end !== "ok").map(({ orderId, code }) => [orderId, code]),
  );
}
/** All ways at the same time, so that what else the machine does meets all of them alike. */
async function playAll(calls: readonly PlannedCall[]): Promise<Played> {
  const whole = async () => {
    progress.says("starting the processes");
    const [toolkit, retryPolicy, bare] = await Promise.all([
      assemble(fleets.toolkit),
      assemble(fleets.retryPolicy),
      assemble(fleets.bare),
    ]);
    watchLateness((ms) => {
      ownLateMs = Math.max(ownLateMs, ms);
    });
    const playing = (way: Way, cast: Cast) =>
      play(cast, calls, (tally) => {
        progress.counts(way, tally);
        live?.counts(way, tally);
      });
    const ends = Promise.all([
      playing("toolkit", toolkit),
      playing("retryPolicy", retryPolicy),
      playing("bare", bare),
    ]);
    for (const [index, { happens, ms }] of phases.entries()) {
      progress.says(`${index + 1}/${phases.length} ${happens}`);
      live?.says(happens);
      // What fails meanwhile ends this, too.
      await Promise.race([sleep(ms), ends]);
    }
    progress.says("the last answers");
    const [first, second, third] = await ends;
    return { toolkit: first, retryPolicy: second, bare: third };
  };
  try {
    return await Promise.race([whole(), ...accidents()]);
  } finally {
    progress.end();
  }
}

/** Each rejects when a process ends that should not. */
function accidents(): Promise<never>[] {
  return Object.values(fleets).map(({ accident }) => accident);
}

async function endAll(): Promise<void> {
  live?.close();
  await Promise.all([...Object.values(fleets).map((fleet) => fleet.end()), viewer?.close()]);
}

/** The page, and an address to which the services send what they tell of their calls. */
function openViewer(demo: Live): Promise<TraceViewer> {
  return traceViewer({ port, otlp: { httpPort: 0, grpcPort: 0 }, demo });
}

function readArguments(): { readonly once: boolean; readonly port: number } {
  const { values } = parseArgs({
    options: { once: { type: "boolean" }, watch: { type: "boolean" }, port: { type: "string" } },
  });
  const once = values.once ?? !(values.watch ?? process.stdout.isTTY);
  return { once, port: Number(values.port ?? 0) };
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    progress.end();
    const code = played ? process.exitCode : signal === "SIGINT" ? 130 : 143;
    void endAll().then(() => process.exit(code));
  });
}

main()
  .catch((error: unknown) => {
    console.error(
      `The incident could not be played to its end: ${error instanceof Error ? error.message : String(error)}`,
    );
    process.exitCode = 1;
  })
  .finally(() => void endAll());
