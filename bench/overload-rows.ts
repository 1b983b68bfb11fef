import type { Column } from "./overload-columns.js";
import type { WorkName } from "./overload-handlers.js";
import type { PriorityName } from "./overload-mix.js";
import type { Cell } from "./overload-stage.js";
import { spreadOf } from "./statistics.js";

/** The same load on the same column in several runs: medians, of those that are valid. */
export interface Row {
  readonly work: WorkName;
  readonly column: Column;
  readonly load: number;
  /** Runs in which the generator made the load, of all. */
  readonly validRuns: number;
  readonly runs: number;
  /** As a multiple of the peak: what was really offered. */
  readonly offered: number;
  /** Of the peak. */
  readonly goodput: number;
  readonly success: Readonly<Record<PriorityName, number>>;
  /** Shares of what was offered. */
  readonly refused: number;
  readonly heldBack: number;
  readonly late: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Infinite: not while it was watched. Not a number: there was nothing to recover from. */
  readonly recoveredMs: number;
}

/** A load that was not made proves nothing. */
const madeShare = 0.95;

export function isValid({ offeredPerSecond, intendedPerSecond }: Cell): boolean {
  return offeredPerSecond >= madeShare * intendedPerSecond;
}

/** Rows in the order in which they were first measured. */
export function rowsOf(cells: readonly Cell[]): Row[] {
  const groups = new Map<string, Cell[]>();
  for (const cell of cells) {
    const key = `${cell.work} ${cell.load} ${cell.column}`;
    const group = groups.get(key) ?? [];
    groups.set(key, group);
    group.push(cell);
  }
  return [...groups.values()].flatMap((group) => rowOf(group) ?? []);
}

function rowOf(group: readonly Cell[]): Row | undefined {
  const [first] = group;
  if (first === undefined) return undefined;
  const valid = group.filter(isValid);
  // Without a valid run the numbers are shown all the same, as what they are.
  const shown = valid.length > 0 ? valid : group;
  const median = (of: (cell: Cell) => number) => spreadOf(shown.map(of)).median;
  const share = (of: (cell: Cell) => number) =>
    median((cell) => of(cell) / Math.max(1, cell.calls));
  const success = (name: PriorityName) => median((cell) => cell.success[name]);
  const { work, column, load } = first;
  return {
    work,
    column,
    load,
    validRuns: valid.length,
    runs: group.length,
    offered: median(({ offeredPerSecond, peak }) => offeredPerSecond / peak),
    goodput: median(({ goodPerSecond, peak }) => goodPerSecond / peak),
    success: {
      critical: success("critical"),
      high: success("high"),
      normal: success("normal"),
      low: success("low"),
    },
    refused: share(({ refused }) => refused),
    heldBack: share(({ heldBack }) => heldBack),
    late: share(({ late }) => late),
    p50Ms: median(({ p50Ms }) => p50Ms),
    p99Ms: median(({ p99Ms }) => p99Ms),
    recoveredMs: load > 1 ? worstMedian(shown) : Number.NaN,
  };
}

/** The median over runs some of which may not have recovered: infinity takes part in the order. */
function worstMedian(cells: readonly Cell[]): number {
  const sorted = cells
    .map(({ recoveredMs = Number.POSITIVE_INFINITY }) => recoveredMs)
    .sort((a, b) => (a < b ? -1 : 1));
  return sorted[sorted.length >> 1] ?? Number.NaN;
}
