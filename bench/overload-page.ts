import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { works } from "./overload-handlers.js";
import { plot } from "./overload-plot.js";
import type { Row } from "./overload-rows.js";
import type { CallCosts } from "./overload-stage.js";
import { cellsOf, costLines, head, titleOf, verdict } from "./overload-table.js";
import type { Target } from "./overload-targets.js";

const begin = "<!-- measured -->";
const end = "<!-- /measured -->";
const file = (name: string) => fileURLToPath(new URL(`../../docs/${name}`, import.meta.url));

/** Writes the plot, and the numbers between the marks of the page. */
export function writePage(
  rows: readonly Row[],
  targets: readonly Target[],
  costs: CallCosts | undefined,
  machine: string,
): void {
  writeFileSync(file("overload.svg"), plot(rows));
  const page = readFileSync(file("overload.md"), "utf8");
  const from = page.indexOf(begin);
  const to = page.indexOf(end);
  if (from < 0 || to < from) throw new Error(`docs/overload.md has no ${begin} … ${end}`);
  const numbers = measured(rows, targets, costs, machine);
  writeFileSync(
    file("overload.md"),
    `${page.slice(0, from + begin.length)}\n${numbers}\n${page.slice(to)}`,
  );
}

function measured(
  rows: readonly Row[],
  targets: readonly Target[],
  costs: CallCosts | undefined,
  machine: string,
): string {
  const names = [...new Set(rows.map(({ work }) => work))].filter((name) => name in works);
  return [
    machine,
    "",
    ...table(
      ["target", "", "worst case"],
      targets.map((target) => [target.title, verdict(target), target.worst]),
    ),
    ...(costs === undefined
      ? []
      : ["", ...table(["an empty call", "server CPU, µs", "of bare"], costLines(costs))]),
    ...names.flatMap((work) => [
      "",
      `### ${titleOf(work)}`,
      "",
      ...table(head, rows.filter((row) => row.work === work).map(cellsOf)),
    ]),
  ].join("\n");
}

function table(titles: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(titles), `|${titles.map(() => "---|").join("")}`, ...rows.map(line)];
}
