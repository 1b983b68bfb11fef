import { type PlannedCall, phases } from "./script.js";
import { type Filter, percent, type Results, sumsOf } from "./table.js";
import { gaps, type Trace } from "./traces.js";
import { titles, ways } from "./ways.js";

export interface Shown {
  readonly plan: readonly PlannedCall[];
  readonly results: Results;
  /** By how much a process did not get to run, at most. */
  readonly lateMs: number;
  /** The trace that is printed. */
  readonly saved: Trace | undefined;
}

/** What processes wait for a processor on a machine that has time for this. */
const busyMs = 200;

const others = ["retryPolicy", "bare"] as const;

/** What of the things shown is not as this example claims; empty when all is well. */
export function verdict({ plan, results, lateMs, saved }: Shown): string[] {
  const wrong: string[] = [];
  for (const way of ways) {
    const { sent, ok, shed, failed } = sumsOf(results[way]);
    if (sent !== plan.length || sent !== ok + shed + failed) {
      wrong.push(
        `${titles[way]}: of ${plan.length} calls ${ok} were served, ${shed} shed, ${failed} failed`,
      );
    }
  }

  const compare = (what: string, filter: Filter) => {
    const { ok, sent } = sumsOf(results.toolkit, filter);
    for (const way of others) {
      const other = sumsOf(results[way], filter);
      if (ok >= other.ok) continue;
      wrong.push(
        `${what}: ${titles.toolkit} served ${ok} of ${sent} calls, ${titles[way]} ${other.ok}`,
      );
    }
  };
  for (const { happens } of phases) {
    compare(`critical, ${happens}`, { phase: happens, priority: "critical" });
  }
  compare("all calls", {});

  if (saved === undefined) wrong.push("no critical call was saved that failed in another column");
  else for (const gap of gaps(saved)) wrong.push(`the trace lacks ${gap}`);
  const waited = waitedForProcessor(lateMs);
  if (wrong.length > 0 && waited !== undefined) wrong.push(`the machine is busy: ${waited}`);
  return wrong;
}

/** How long processes waited for a processor; `undefined` on a machine that has time for this. */
export function waitedForProcessor(lateMs: number): string | undefined {
  if (lateMs <= busyMs) return undefined;
  return `processes waited up to ${Math.round(lateMs)} ms for a processor, which counts as time of their calls`;
}

/** The incident in one sentence. */
export function summary(results: Results): string {
  const [toolkit, retryPolicy, bare] = ways.map((way) => ({
    critical: sumsOf(results[way], { priority: "critical" }),
    all: sumsOf(results[way]),
  }));
  if (toolkit === undefined || retryPolicy === undefined || bare === undefined) return "";
  const { critical, all } = toolkit;
  return [
    `In the same incident ${titles.toolkit} served ${critical.ok} of ${critical.sent} critical checkouts`,
    ` (${percent(critical.ok, critical.sent)}), ${titles.retryPolicy} ${retryPolicy.critical.ok} and ${titles.bare} ${bare.critical.ok};`,
    ` of all ${all.sent} it served ${all.ok}, the others ${retryPolicy.all.ok} and ${bare.all.ok}.`,
  ].join("");
}
