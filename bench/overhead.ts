import { mkdirSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { dirname } from "node:path";
import { groupNames } from "./overhead-groups.js";
import { FetchedNodes, nodeAt } from "./overhead-nodes.js";
import { type OverheadOptions, overheadOptions } from "./overhead-options.js";
import { writePage } from "./overhead-page.js";
import { Stage, warmCalls } from "./overhead-stage.js";
import { type NodeResult, tableOf, targetTable } from "./overhead-summary.js";
import { machine, printTable, printTitle } from "./report.js";

/** What the toolkit costs a call, on a client and on a server, against bare grpc-js and against others. */
export async function overhead(): Promise<void> {
  const args = process.argv.slice(2);
  const firstOption = args.findIndex((arg) => arg.startsWith("-"));
  const options = overheadOptions(firstOption < 0 ? [] : args.slice(firstOption));
  const fetched = new FetchedNodes();
  try {
    // All of them first: a version that there is not is known before an hour of measuring.
    const nodes = [...options.nodes].map(([name, path]) =>
      path === undefined ? fetched.fetch(name) : nodeAt(path),
    );
    const on = machine(nodes.map(({ version }) => version).join(", "));
    const about = describe(options);
    printTitle("overhead: what a call costs with the toolkit, over loopback", about, on);
    const results: NodeResult[] = [];
    for (const node of nodes) {
      const result: NodeResult = { node, sets: [] };
      results.push(result);
      for (let set = 1; set <= options.sets; set += 1) {
        const load = loadavg()[0]?.toFixed(1);
        console.error(`Node ${node.version}: set ${set} of ${options.sets}, load ${load}`);
        result.sets.push(await new Stage(node.path, options).measure());
      }
      print(result);
      // After each Node, so that what is measured is not lost with the next.
      save(options.json, `${on}. ${about}`, results);
      if (options.write) writePage(results, `${on}. ${about}`);
    }
    const { head, lines } = targetTable(results);
    printTable(head, lines);
  } finally {
    fetched.remove();
  }
}

/** Below this, quartiles over the sets say little. */
const enoughSets = 5;

function describe({ sets, rounds }: OverheadOptions): string {
  const rough = sets < enoughSets ? " With so few processes, they are rough." : "";
  return (
    `${sets} processes for each client and server, ${warmCalls} calls of warm-up in each, ` +
    `${rounds} rounds by turns.\nRatios: median of the paired rounds, then of the processes, with quartiles.${rough}`
  );
}

function print(result: NodeResult): void {
  console.log(`\nNode ${result.node.version}`);
  for (const group of groupNames) {
    const { head, lines } = tableOf(result, group);
    printTable(head, lines);
    console.log();
  }
  for (const note of result.sets.flatMap(({ notes }) => notes)) console.log(note);
}

function save(file: string, measuredOn: string, results: readonly NodeResult[]): void {
  const nodes = results.map(({ node, sets }) => ({
    node: node.version,
    sets: sets.map(({ groups, notes }) => ({
      groups: [...groups].map(([group, rows]) => ({
        group,
        rows: [...rows].map(([{ title }, measured]) => ({ title, ...measured })),
      })),
      notes,
    })),
  }));
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify({ measuredOn, nodes }, undefined, 2)}\n`);
}
