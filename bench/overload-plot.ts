import { type Column, columns } from "./overload-columns.js";
import { works } from "./overload-handlers.js";
import { type PriorityName, priorityNames } from "./overload-mix.js";
import type { Row } from "./overload-rows.js";
import { picture, round, text } from "./svg.js";

const columnColours: Readonly<Record<Column, string>> = {
  bare: "#d1242f",
  limit: "#7d8590",
  lag: "#bf8700",
  weir: "#1f6feb",
  client: "#1a9f5b",
};
const priorityColours: Readonly<Record<PriorityName, string>> = {
  critical: "#1f6feb",
  high: "#1a9f5b",
  normal: "#bf8700",
  low: "#d1242f",
};

const panel = { width: 300, height: 190, left: 46, gap: 34 };
const top = 64;
const below = 74;
const legendAt = { goodput: 40, success: top + panel.height + below - 16 };

/** For whoever does not see the plot. */
const description =
  "For each kind of work, goodput as a share of the peak and, for each priority, the share of calls that succeed, while the offered load grows to ten times the peak. The tables of the page have the numbers.";

/** Goodput by column and success by priority against the load, one panel of each for each handler. */
export function plot(rows: readonly Row[]): string {
  const shown = rows.filter(({ validRuns }) => validRuns > 0);
  const names = [...new Set(shown.map(({ work }) => work))];
  const width = panel.left + names.length * (panel.width + panel.gap);
  const height = 2 * (top + panel.height) + 30;
  const parts = names.flatMap((work, index) => {
    const x = panel.left + index * (panel.width + panel.gap);
    const own = shown.filter((row) => row.work === work);
    return [
      text(x, 18, works[work].title, { kind: "title" }),
      ...goodput(own, x, top),
      ...success(own, x, top + panel.height + below),
    ];
  });
  const label = "Goodput and success by priority against the offered load";
  const styles = "polyline { fill: none; stroke-width: 2 } .client { stroke-dasharray: 5 3 }";
  return picture({ width, height, label, description, styles }, [
    ...legend(
      Object.entries(columns).map(([column, title]) => ({
        title,
        colour: columnColours[column as Column],
        dashed: false,
      })),
      "goodput, share of the peak:",
      legendAt.goodput,
    ),
    ...legend(
      [
        ...priorityNames.map((title) => ({ title, colour: priorityColours[title], dashed: false })),
        { title: "dashed: clients too", colour: "#7d8590", dashed: true },
      ],
      "success by priority, grpc-weir:",
      legendAt.success,
    ),
    ...parts,
  ]);
}

function goodput(rows: readonly Row[], x: number, y: number): string[] {
  const loads = loadsOf(rows);
  return [
    ...frame(loads, x, y, [0, 0.25, 0.5, 0.75, 1]),
    ...(Object.keys(columns) as Column[]).flatMap((column) =>
      line(
        rows.filter((row) => row.column === column),
        loads,
        (row) => row.goodput,
        { x, y, colour: columnColours[column], dashed: false },
      ),
    ),
  ];
}

function success(rows: readonly Row[], x: number, y: number): string[] {
  const loads = loadsOf(rows);
  return [
    ...frame(loads, x, y, [0, 0.25, 0.5, 0.75, 1]),
    ...(["weir", "client"] as const).flatMap((column) =>
      priorityNames.flatMap((name) =>
        line(
          rows.filter((row) => row.column === column),
          loads,
          (row) => row.success[name],
          { x, y, colour: priorityColours[name], dashed: column === "client" },
        ),
      ),
    ),
  ];
}

function loadsOf(rows: readonly Row[]): number[] {
  return [...new Set(rows.map(({ load }) => load))].sort((a, b) => a - b);
}

/** Loads stand side by side at the same distance: their steps are about double each. */
function across(loads: readonly number[], load: number, x: number): number {
  return x + (panel.width * loads.indexOf(load)) / Math.max(1, loads.length - 1);
}

const highest = 1.1;
function up(value: number, y: number): number {
  return y + panel.height * (1 - Math.min(highest, value) / highest);
}

function frame(loads: readonly number[], x: number, y: number, ticks: readonly number[]): string[] {
  return [
    `<rect class="frame" x="${x}" y="${y}" width="${panel.width}" height="${panel.height}"/>`,
    ...ticks.flatMap((tick) => [
      `<line class="grid" x1="${x}" x2="${x + panel.width}" y1="${round(up(tick, y))}" y2="${round(up(tick, y))}"/>`,
      text(x - 6, up(tick, y) + 4, String(tick), { anchor: "end" }),
    ]),
    ...loads.map((load) =>
      text(across(loads, load, x), y + panel.height + 16, `${load}×`, { anchor: "middle" }),
    ),
  ];
}

function line(
  rows: readonly Row[],
  loads: readonly number[],
  value: (row: Row) => number,
  { x, y, colour, dashed }: { x: number; y: number; colour: string; dashed: boolean },
): string[] {
  const points = [...rows]
    .sort((a, b) => a.load - b.load)
    .map((row) => [round(across(loads, row.load, x)), round(up(value(row), y))] as const);
  if (points.length === 0) return [];
  const path = points.map((point) => point.join(",")).join(" ");
  return [
    `<polyline${dashed ? ' class="client"' : ""} stroke="${colour}" points="${path}"/>`,
    ...points.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="2.5" fill="${colour}"/>`),
  ];
}

function legend(
  entries: readonly { title: string; colour: string; dashed: boolean }[],
  title: string,
  y: number,
): string[] {
  let x = panel.left;
  const parts = [text(x, y, title)];
  x += 7 * title.length;
  for (const entry of entries) {
    parts.push(
      `<polyline${entry.dashed ? ' class="client"' : ""} stroke="${entry.colour}" points="${x},${y - 4} ${x + 20},${y - 4}"/>`,
      text(x + 26, y, entry.title),
    );
    x += 46 + 7 * entry.title.length;
  }
  return parts;
}
