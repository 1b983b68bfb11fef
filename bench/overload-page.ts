import { writeFileSync } from "node:fs";
import { works } from "./overload-handlers.js";
import { plot } from "./overload-plot.js";
import type { Row } from "./overload-rows.js";
import type { CallCosts } from "./overload-stage.js";
import { cellsOf, costLines, head, titleOf, verdict } from "./overload-table.js";
import type { Target } from "./overload-targets.js";
import { docsFile, markdownTable, writeMeasured } from "./page.js";

/** Writes the plot, and the numbers between the marks of the page. */
export function writePage(
  rows: readonly Row[],
  targets: readonly Target[],
  costs: CallCosts | undefined,
  machine: string,
): void {
  writeFileSync(docsFile("overload.svg"), plot(rows));
  const names = [...new Set(rows.map(({ work }) => work))].filter((name) => name in works);
  writeMeasured("overload.md", [
    machine,
    "",
    ...markdownTable(
      ["target", "", "worst case"],
      targets.map((target) => [target.title, verdict(target), target.worst]),
    ),
    ...(costs === undefined
      ? []
      : ["", ...markdownTable(["an empty call", "server CPU, µs", "of bare"], costLines(costs))]),
    ...names.flatMap((work) => [
      "",
      `### ${titleOf(work)}`,
      "",
      ...markdownTable(head, rows.filter((row) => row.work === work).map(cellsOf)),
    ]),
  ]);
}
