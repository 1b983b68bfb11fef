import { priorities } from "../core/priority.js";
import type { Incident } from "./incident.js";
import { type IncidentReport, troubled } from "./run.js";
import { type Counts, goodput, type PhaseReport, together } from "./tally.js";

/** What became of an incident with one peer, with several seeds. */
export interface Run {
  readonly peer: string;
  readonly reports: readonly IncidentReport[];
}

/** The columns of the table of an incident. */
const head = [
  "phase",
  "peer",
  "good",
  ...priorities,
  "amplif.",
  "p50 ms",
  "p99 ms",
  "back after",
  "refused",
  "failed",
] as const;

/** The table of an incident: a row for each peer and phase, the first one with the names of the columns. */
export function rowsOf(incident: Incident, runs: readonly Run[]): readonly (readonly string[])[] {
  // Normal times before an incident are the same for all.
  const [first, ...rest] = incident.phases;
  const shown = rest.length > 0 && first?.name === "before" ? rest : incident.phases;
  const phases = [...new Set(shown.map(({ name }) => name))];
  return [head, ...phases.flatMap((name) => runs.map((run) => rowOf(name, run)))];
}

/** That table as text. */
export function table(incident: Incident, runs: readonly Run[]): string {
  const { name, what, wanted } = incident;
  const lines = [`## ${name}`, what, wanted === "" ? "" : `Wanted: ${wanted}`];
  const rows = rowsOf(incident, runs);
  const widths = head.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  for (const [at, row] of rows.entries()) {
    lines.push(
      (at === 0 ? "\n" : "") +
        row
          .map((cell, column) => cell.padEnd((widths[column] ?? 0) + 2))
          .join("")
          .trimEnd(),
    );
  }
  return `${lines.filter((line) => line !== "").join("\n")}\n`;
}

/** One table of all incidents, in Markdown: the share of calls that were served from the beginning of each to the end. */
export function summary(
  all: readonly { readonly incident: Incident; readonly runs: readonly Run[] }[],
): string {
  const names = all[0]?.runs.map(({ peer }) => peer) ?? [];
  const lines = [`| incident | ${names.join(" | ")} |`, `|---|${names.map(() => "---|").join("")}`];
  for (const { incident, runs } of all) {
    const cells = runs.map(({ reports }) => {
      const phases = reports.flatMap((report) => troubled(report));
      const back = recovery(reports);
      return `${percent(goodput(together(phases)))}${back === "never" ? ", never back" : ""}`;
    });
    lines.push(`| \`${incident.name}\` | ${cells.join(" | ")} |`);
  }
  return lines.join("\n");
}

function rowOf(phaseName: string, { peer, reports }: Run): string[] {
  const phases = reports.flatMap(({ phases: all }) => all.filter(({ name }) => name === phaseName));
  const all = together(phases);
  const of = (priority: keyof PhaseReport["priorities"]) =>
    together(phases.map(({ priorities }) => priorities[priority]));
  const mean = (numbers: readonly number[]) =>
    numbers.reduce((sum, each) => sum + each, 0) / numbers.length;
  const longest = (of: (phase: PhaseReport) => number | undefined) =>
    Math.max(...phases.map((phase) => of(phase) ?? 0)).toFixed(1);
  return [
    phaseName,
    peer,
    percent(goodput(all)),
    ...priorities.map((priority) => {
      const its = of(priority);
      return its.sent === 0 ? "" : percent(goodput(its));
    }),
    mean(phases.map(({ amplification }) => amplification)).toFixed(2),
    longest(({ p50Ms }) => p50Ms),
    longest(({ p99Ms }) => p99Ms),
    phaseName === "after" ? recovery(reports) : "",
    shares(all, all.refused),
    shares(all, all.failed),
  ];
}

function recovery(reports: readonly IncidentReport[]): string {
  const all = reports.map(({ recoveryMs }) => recoveryMs);
  if (all.includes(null)) return "never";
  return `${Math.max(...all.map((ms) => ms ?? 0))} ms`;
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(share > 0.99 && share < 1 ? 2 : 1)} %`;
}

function shares({ sent }: Counts, reasons: Readonly<Record<string, number>>): string {
  return Object.entries(reasons)
    .map(([why, count]) => `${why} ${percent(count / sent)}`)
    .join(", ");
}
