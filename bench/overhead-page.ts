import { writeFileSync } from "node:fs";
import { groupNames } from "./overhead-groups.js";
import { plot } from "./overhead-plot.js";
import { type NodeResult, tableOf, targetTable } from "./overhead-summary.js";
import { docsFile, markdownTable, writeMeasured } from "./page.js";

/** Writes the plot, and the numbers between the marks of the page. */
export function writePage(results: readonly NodeResult[], measuredOn: string): void {
  writeFileSync(docsFile("cost.svg"), plot(results));
  const targets = targetTable(results);
  writeMeasured("cost.md", [
    measuredOn,
    "",
    ...markdownTable(targets.head, targets.lines),
    ...results.flatMap((result) => [
      "",
      `### Node ${result.node.version}`,
      ...groupNames.flatMap((group) => {
        const { head, lines } = tableOf(result, group);
        return ["", ...markdownTable(head, lines)];
      }),
      ...notes(result),
    ]),
  ]);
}

function notes({ sets }: NodeResult): string[] {
  const all = sets.flatMap(({ notes }) => notes);
  return all.length === 0 ? [] : ["", ...all.map((note) => `- ${note}`)];
}
