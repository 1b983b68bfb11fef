import type { Priority } from "grpc-weir";
import type { PlannedCall } from "./script.js";
import { type Column, priorities, type Sums, sumsOf } from "./table.js";
import { gaps, refusals, type Trace, wasRetried } from "./traces.js";

export interface Shown {
  readonly plan: readonly PlannedCall[];
  readonly equipped: Column;
  readonly bare: Column;
  readonly traces: readonly Trace[];
  /** The trace that is printed. */
  readonly shown: Trace | undefined;
}

/** The shares of critical calls that must go well with the toolkit, and by which it must be better. */
const leastOk = 0.9;
const leastGain = 0.1;

/** What of the things shown is not as they should be; empty when all is well. */
export function verdict({ plan, equipped, bare, traces, shown }: Shown): string[] {
  const wrong: string[] = [];
  const must = (holds: boolean, otherwise: string) => {
    if (!holds) wrong.push(otherwise);
  };

  for (const [name, { calls, retried }] of [
    ["with", equipped],
    ["without", bare],
  ] as const) {
    for (const priority of priorities) {
      const { sent, ok, shed, failed } = sumsOf(ofPriority(calls, priority), retried);
      const planned = ofPriority(plan, priority).length;
      const told = `${name} the toolkit, ${priority}: ${ok} ok + ${shed} shed + ${failed} failed`;
      must(sent === ok + shed + failed, `${told} is not ${sent} sent`);
      must(sent === planned, `${told} is not the ${planned} planned`);
    }
  }

  const sums = (column: Column, priority: Priority): Sums =>
    sumsOf(ofPriority(column.calls, priority), column.retried);
  const critical = share("ok", sums(equipped, "critical"));
  const bareCritical = share("ok", sums(bare, "critical"));
  must(
    critical >= leastOk,
    `${percent(critical)} of the critical calls went well, not ${percent(leastOk)}`,
  );
  must(
    critical >= bareCritical + leastGain,
    `of the critical calls ${percent(critical)} went well with the toolkit and ${percent(bareCritical)} without it`,
  );
  const shed = priorities.map((priority) => share("shed", sums(equipped, priority)));
  const told = priorities.map((priority, index) => `${priority} ${percent(shed[index] ?? 0)}`);
  must(
    shed.every((value, index) => index === 0 || value >= (shed[index - 1] ?? 0)) &&
      (shed.at(-1) ?? 0) > 0,
    `calls were not shed from the low priorities up: ${told.join(", ")}`,
  );

  must(equipped.retried.size > 0, "no call was retried");
  must(traces.length >= plan.length, `there are ${traces.length} traces for ${plan.length} calls`);
  if (shown === undefined) wrong.push("no trace with a retried call is complete");
  else {
    for (const gap of gaps(shown)) wrong.push(`the trace lacks ${gap}`);
    for (const service of ["caller", "edge", "orders", "inventory"]) {
      must(
        shown.spans.some((span) => span.service === service),
        `the trace has no span of ${service}`,
      );
    }
    must(
      refusals(shown) > 0 || !traces.some((trace) => wasRetried(trace) && refusals(trace) > 0),
      "the trace shows no refusal, though there were calls that were refused and retried",
    );
  }
  return wrong;
}

function ofPriority<T extends { readonly priority: Priority }>(
  items: readonly T[],
  priority: Priority,
): readonly T[] {
  return items.filter((item) => item.priority === priority);
}

function share(what: "ok" | "shed", sums: Sums): number {
  return sums.sent === 0 ? 0 : sums[what] / sums.sent;
}

function percent(value: number): string {
  return `${(100 * value).toFixed(1)} %`;
}
