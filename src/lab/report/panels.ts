import { type Priority, priorities } from "../../core/priority.js";
import type { Incident } from "../incident.js";
import { goodShares, sentIn, type Timeline } from "../timeline.js";
import { type Plot, type PlotTime, roundUp, type Series } from "./plot.js";

/** A plot for each of the compared, of the same thing. */
export interface PanelRow {
  /** For anchors. */
  readonly name: string;
  readonly title: string;
  /** What is to be seen, in a sentence. */
  readonly what: string;
  readonly plots: readonly Plot[];
}

/** The plots of a comparison: a row for each thing that is plotted. */
export function panelRows(incident: Incident, timelines: readonly Timeline[]): readonly PanelRow[] {
  const time = timeOf(incident);
  const { deadlineMs } = incident.load;
  const perSecond = ({ sliceMs }: Timeline, count: number) => (count * 1_000) / sliceMs;
  const mostCalls = roundUp(
    1.05 * most(timelines.flatMap((each) => sentIn(each).map((count) => perSecond(each, count)))),
  );
  const tones = outcomeTones(timelines);
  const rows: PanelRow[] = [
    {
      name: "calls",
      title: "What became of the calls",
      what: "Calls that were due, a second: answered in time, refused by a policy, or failed otherwise.",
      plots: timelines.map((timeline) => ({
        title: "What became of the calls",
        areas: timeline.outcomes.map(({ kind, why, counts }) => ({
          label: kind === "good" ? "served in time" : why,
          tone: tones.get(`${kind} ${why}`) ?? kind,
          values: counts.map((count) => perSecond(timeline, count)),
          stepMs: timeline.sliceMs,
        })),
        lines: [],
        most: mostCalls,
        shown: (value) => `${whole(value)}/s`,
        time,
      })),
    },
    {
      name: "priorities",
      title: "Served in time, by priority",
      what: "The share of the calls of each priority that were answered before their deadline.",
      plots: timelines.map((timeline) => ({
        title: "Served in time, by priority",
        areas: [],
        // The most important one is drawn last, above the others.
        lines: priorities.toReversed().map((priority) => ({
          label: priority,
          tone: priority satisfies Priority,
          values: goodShares(timeline, priority),
          stepMs: timeline.sliceMs,
        })),
        most: 1,
        shown: (value) => `${Math.round(100 * value)} %`,
        time,
      })),
    },
    {
      name: "latency",
      title: "Latency of the calls that were served",
      what: `How long users waited for a good answer. They wait for ${deadlineMs} ms at most.`,
      plots: timelines.map(({ p50Ms, p99Ms, sliceMs }) => ({
        title: "Latency of the calls that were served",
        areas: [],
        lines: [
          { label: "p99", tone: "p99", values: p99Ms, stepMs: sliceMs },
          { label: "p50", tone: "p50", values: p50Ms, stepMs: sliceMs },
        ],
        most: roundUp(Math.min(deadlineMs, 1.1 * most(timelines.flatMap((each) => each.p99Ms)))),
        shown: (value) => `${whole(value)} ms`,
        time,
      })),
    },
    {
      name: "servers",
      title: "Calls on the servers",
      what: `Calls that run and that wait for a slot, and how many may run, together${someOf(
        timelines,
        "servers",
        incident.servers ?? 1,
      )}. Each plot has its own scale.`,
      plots: timelines.map((timeline) => serverPlot(timeline, time)),
    },
  ];
  if (timelines.some(({ breakers }) => breakers.some((each) => each.open + each.halfOpen > 0))) {
    rows.push({
      name: "breakers",
      title: "Circuit breakers of the clients",
      what: `How many are in which state${someOf(timelines, "clients", incident.clients ?? 2)}.`,
      plots: timelines.map((timeline) => breakerPlot(timeline, timelines, time)),
    });
  }
  return rows;
}

function serverPlot({ servers, everyMs }: Timeline, time: PlotTime): Plot {
  const limits = servers.map(({ limit }) => limit);
  const busiest = most(servers.map(({ running, queued }) => running + queued));
  const lowest = Math.min(...limits.filter((limit) => limit !== undefined), Infinity);
  // A limit that is far away from what runs is left to the upper edge.
  const reachable = Number.isFinite(lowest) ? Math.max(busiest, Math.min(lowest, 2 * busiest)) : 0;
  return {
    title: "Calls on the servers",
    areas: [
      {
        label: "running",
        tone: "running",
        values: servers.map(({ running }) => running),
        stepMs: everyMs,
      },
      {
        label: "queued",
        tone: "queued",
        values: servers.map(({ queued }) => queued),
        stepMs: everyMs,
      },
    ].filter(({ values, label }) => label === "running" || most(values) > 0),
    lines: limits.some((limit) => limit !== undefined)
      ? [{ label: "limit", tone: "limit", values: limits, stepMs: everyMs }]
      : [],
    most: roundUp(1.1 * Math.max(busiest, reachable)),
    shown: whole,
    time,
  };
}

function breakerPlot(
  { breakers, everyMs }: Timeline,
  all: readonly Timeline[],
  time: PlotTime,
): Plot {
  const series = (
    label: string,
    tone: string,
    of: (typeof breakers)[number]["open"][],
  ): Series => ({
    label,
    tone,
    values: of,
    stepMs: everyMs,
  });
  const count = (each: (typeof breakers)[number]) => each.closed + each.halfOpen + each.open;
  return {
    title: "Circuit breakers of the clients",
    areas: [
      series(
        "open",
        "open",
        breakers.map(({ open }) => open),
      ),
      series(
        "half-open",
        "half-open",
        breakers.map(({ halfOpen }) => halfOpen),
      ),
      series(
        "closed",
        "closed",
        breakers.map(({ closed }) => closed),
      ),
    ].filter(({ values }) => most(values) > 0),
    lines: [],
    most: roundUp(most(all.flatMap((timeline) => timeline.breakers.map(count)))),
    shown: whole,
    time,
  };
}

/** The time of an incident: what is neither before nor after it is shaded. */
export function timeOf({ phases, events = [] }: Incident): PlotTime {
  let endMs = 0;
  let fromMs: number | undefined;
  let untilMs = 0;
  for (const { name, ms } of phases) {
    if (name === "during") {
      fromMs ??= endMs;
      untilMs = endMs + ms;
    }
    endMs += ms;
  }
  return {
    endMs,
    trouble: { fromMs: fromMs ?? 0, untilMs },
    eventsMs: events.map(({ atMs }) => atMs),
  };
}

/** Each reason has the same colour in all plots. */
function outcomeTones(timelines: readonly Timeline[]): ReadonlyMap<string, string> {
  const tones = new Map<string, string>();
  const used = { good: 0, refused: 0, failed: 0 };
  for (const { kind, why } of timelines.flatMap(({ outcomes }) => outcomes)) {
    const key = `${kind} ${why}`;
    if (tones.has(key)) continue;
    used[kind] += 1;
    tones.set(key, kind === "good" ? kind : `${kind}-${((used[kind] - 1) % shades) + 1}`);
  }
  return tones;
}

/** How many shades there are for reasons of refusals, and for statuses. */
const shades = 4;

function most(values: readonly (number | undefined)[]): number {
  return values.reduce<number>((highest, value) => Math.max(highest, value ?? 0), 0);
}

function someOf(timelines: readonly Timeline[], which: "servers" | "clients", all: number): string {
  const read = most(timelines.map((timeline) => timeline.read[which]));
  return read < all ? ` (${read} of the ${all.toLocaleString("en")} ${which} are read)` : "";
}

function whole(value: number): string {
  return value < 10 && !Number.isInteger(value)
    ? value.toFixed(1)
    : Math.round(value).toLocaleString("en");
}
