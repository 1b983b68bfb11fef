import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { type OverloadOptions, overloadOptions } from "./overload-options.js";
import { writePage } from "./overload-page.js";
import { isValid, type Row, rowsOf } from "./overload-rows.js";
import { type CallCosts, type Cell, Stage } from "./overload-stage.js";
import { cellsOf, costLines, head, titleOf, verdict } from "./overload-table.js";
import { targetsOf } from "./overload-targets.js";
import { machine, printTable, printTitle } from "./report.js";

/**
 * What becomes of a server that is offered up to ten times what it can do: bare, behind what one writes in an
 * afternoon, and behind admission with its defaults.
 */
export async function overload(): Promise<void> {
  const args = process.argv.slice(2);
  const firstOption = args.findIndex((arg) => arg.startsWith("-"));
  const options = overloadOptions(firstOption < 0 ? [] : args.slice(firstOption));
  printTitle(
    "overload: a server that is offered more than it can do",
    `Calls come at random (Poisson) from two processes, with a deadline of 300 ms; critical/high/normal/low 5/20/45/30 %. ` +
      `A second of calm,\n${options.seconds} s of the load, and calm again; new server and clients each time. ` +
      `Medians of ${options.runs}. Goodput is a share of the peak of the same run.`,
  );
  const stage = new Stage();
  try {
    const cells: Cell[] = [];
    for (let run = 0; run < options.runs; run += 1) await measureAll(stage, options, run, cells);
    const costs = await stage.costs();
    report(cells, costs, options);
  } finally {
    stage.stop();
  }
}

async function measureAll(
  stage: Stage,
  { works, columns, loads, seconds, runs }: OverloadOptions,
  run: number,
  cells: Cell[],
): Promise<void> {
  for (const work of works) {
    const peak = await stage.peak(work, 0.7);
    for (const load of loads) {
      // Turned, so that no column has the same predecessor all the time.
      const first = run % columns.length;
      const made: Cell[] = [];
      for (const column of [...columns.slice(first), ...columns.slice(0, first)]) {
        console.error(
          `run ${run + 1} of ${runs}: ${work}, ${load}× of ${peak.toFixed(0)}/s, ${column}`,
        );
        made.push(await stage.measure(work, column, load, peak, seconds));
      }
      cells.push(...made);
      if (made.some(isValid)) continue;
      console.error(`the generators do not reach ${load}× of ${work}: no higher loads`);
      break;
    }
  }
}

function report(cells: readonly Cell[], costs: CallCosts, options: OverloadOptions): void {
  const inOrder = (row: Row) =>
    100 * options.loads.indexOf(row.load) + options.columns.indexOf(row.column);
  const rows = rowsOf(cells).sort((a, b) => inOrder(a) - inOrder(b));
  for (const work of options.works) {
    console.log(`\n${titleOf(work)}`);
    printTable(head, rows.filter((row) => row.work === work).map(cellsOf));
  }
  console.log();
  printTable(["an empty call", "server CPU, µs", "of bare"], costLines(costs));
  console.log();
  const targets = targetsOf(rows, costs);
  printTable(
    ["target", "", "worst case"],
    targets.map((target) => [target.title, verdict(target), target.worst]),
  );
  mkdirSync(dirname(options.json), { recursive: true });
  const measured = { machine: machine(), options, rows, targets, costs, cells };
  writeFileSync(options.json, `${JSON.stringify(measured, undefined, 2)}\n`);
  console.log(`\nwritten: ${options.json}`);
  if (options.write) writePage(rows, targets, costs, machine());
}
