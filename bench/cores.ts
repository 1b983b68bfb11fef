import { rows } from "./cores-rows.js";
import { printTable, printTitle } from "./report.js";
import { interleaved, type Rounds } from "./rounds.js";
import { lowest, spreadOf } from "./statistics.js";

const rounds: Rounds = { warmUp: 5, kept: 40 };
const decisions = 20_000;

const noise =
  `${decisions} decisions a turn; the rows take turns, ${rounds.kept} rounds after ${rounds.warmUp} of warm-up.\n` +
  "CPU time of the process. Median and quietest (the lowest tenth of the rounds); a reading of the clock and an empty " +
  "decision for comparison.";

/** What the decisions of core cost by themselves. */
export async function cores(): Promise<void> {
  printTitle("cores: each decision by itself", noise);
  const measured = await interleaved(rows, rounds, ({ decide }) => {
    const before = process.cpuUsage();
    for (let number = 0; number < decisions; number += 1) decide(number);
    const { user, system } = process.cpuUsage(before);
    return ((user + system) * 1_000) / decisions;
  });
  printTable(
    ["decision", "median ns", "quietest ns"],
    rows.map((row) => {
      const costs = measured.get(row) ?? [];
      return [row.name, spreadOf(costs).median.toFixed(0), lowest(costs).toFixed(0)];
    }),
  );
}
