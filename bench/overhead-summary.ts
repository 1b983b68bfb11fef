import {
  type Figure,
  type Group,
  type GroupName,
  groupNames,
  groups,
  type Row,
} from "./overhead-groups.js";
import type { NodeBinary } from "./overhead-nodes.js";
import type { Measured, SetResult } from "./overhead-stage.js";
import { withQuartiles } from "./report.js";
import { pairwise, ratio, type Spread, spreadOf } from "./statistics.js";

/** What all sets measured under one Node. */
export interface NodeResult {
  readonly node: NodeBinary;
  readonly sets: SetResult[];
}

/** Text in columns. */
export interface Table {
  readonly head: readonly string[];
  readonly lines: readonly (readonly string[])[];
}

/**
 * A row against another one: in each set the median of the rounds, each compared with the other's turn in the same
 * round; then the median of the sets, with quartiles. A set is a process of each, so the quartiles are over processes.
 */
export function ratioOf(
  sets: readonly SetResult[],
  group: GroupName,
  row: Row,
  to: Row,
  figure: Figure,
): Spread {
  return spreadOf(
    sets.map((set) => {
      const rows = set.groups.get(group);
      const series = (of: Row) => rows?.get(of)?.turns.map((turn) => turn[figure]) ?? [];
      return pairwise(series(row), series(to), ratio).median;
    }),
  );
}

/** The middle of the sets, of something that each set has once. */
function median(
  { sets }: NodeResult,
  group: GroupName,
  row: Row,
  of: (measured: Measured) => number | undefined,
): number {
  const values = sets.map((set) => {
    const measured = set.groups.get(group)?.get(row);
    return (measured === undefined ? undefined : of(measured)) ?? Number.NaN;
  });
  return spreadOf(values).median;
}

/** The heads and the lines of a group's table. */
export function tableOf(result: NodeResult, name: GroupName): Table {
  const group: Group = groups[name];
  const [first] = group.rows;
  const lines = group.rows.map((row) => {
    const of = (figure: Figure) =>
      row === first ? "1" : withQuartiles(ratioOf(result.sets, name, row, first, figure), 2);
    const inTurns = (figure: Figure) => (measured: Measured) =>
      spreadOf(measured.turns.map((turn) => turn[figure])).median;
    const kilobytes = (of: (measured: Measured) => number | undefined) =>
      (median(result, name, row, of) / 1_000).toFixed(1);
    return [
      row.title,
      median(result, name, row, inTurns("cpuUs")).toFixed(1),
      of("cpuUs"),
      median(result, name, row, inTurns("perSecond")).toFixed(0),
      of("perSecond"),
      ...(group.paced ? [median(result, name, row, ({ p99Ms }) => p99Ms).toFixed(2)] : []),
      ...(group.heap
        ? [
            kilobytes(({ allocatedBytes }) => allocatedBytes),
            kilobytes(({ survivingBytes }) => survivingBytes),
          ]
        : []),
    ];
  });
  const side = group.side === "both" ? "both sides'" : `${group.side}'s`;
  return {
    head: [
      group.title,
      `${side} CPU µs`,
      "ratio",
      `${group.unit}s/s`,
      "ratio",
      ...(group.paced ? ["p99 ms"] : []),
      ...(group.heap ? ["allocated kB", "surviving kB"] : []),
    ],
    lines,
  };
}

/** The rows that have a target down, the Nodes across. */
export function targetTable(results: readonly NodeResult[]): Table {
  const lines = rowsWithGroup().flatMap(({ group, row }) => {
    const { target } = row;
    if (target === undefined) return [];
    const { figure, atMost = Number.POSITIVE_INFINITY, atLeast = 0 } = target;
    const { rows, title }: Group = groups[group];
    const to = rows.find(({ client }) => client === target.to) ?? rows[0];
    const cells = results.map(({ sets }) => {
      const measured = ratioOf(sets, group, row, to, figure);
      const met = measured.median <= atMost && measured.median >= atLeast;
      return `${withQuartiles(measured, 2)} ${met ? "met" : "missed"}`;
    });
    const what = figure === "cpuUs" ? `CPU ≤ ${atMost}` : `throughput ≥ ${atLeast}`;
    return [[`${title}: ${row.title}`, `${what} of ${to.title}`, ...cells]];
  });
  const versions = results.map(({ node }) => `Node ${node.version}`);
  return { head: ["row", "target", ...versions], lines };
}

/** All rows but the first of each group, which are what the others are compared with. */
export function rowsWithGroup(): readonly { readonly group: GroupName; readonly row: Row }[] {
  return groupNames.flatMap((group) => {
    const rows: readonly Row[] = groups[group].rows;
    return rows.slice(1).map((row) => ({ group, row }));
  });
}
