import { type GroupName, groups, type Row } from "./overhead-groups.js";
import { type NodeResult, ratioOf, rowsWithGroup } from "./overhead-summary.js";
import type { Spread } from "./statistics.js";
import { picture, round, text } from "./svg.js";

const colours = ["#1f6feb", "#1a9f5b", "#bf8700", "#d1242f"];

const left = 250;
const width = 560;
const top = 44;
/** A row has a line for each Node; a group has a title above its rows. */
const lineHeight = 9;
const rowGap = 8;
const titleHeight = 26;

interface Scale {
  readonly from: number;
  readonly to: number;
}

/** For whoever does not see the plot. */
const description =
  "A dot for each way to call and each version of Node, by groups, with bars for the quartiles. The tables of the page have the numbers.";

/** The CPU ratio of each row, with quartiles: a line for each Node. */
export function plot(results: readonly NodeResult[]): string {
  const rows = rowsWithGroup().map(({ group, row }) => ({
    group,
    row,
    spreads: results.map(({ sets }) => ratioOf(sets, group, row, groups[group].rows[0], "cpuUs")),
  }));
  const scale = scaleOf(rows.flatMap(({ spreads }) => spreads));
  const parts: string[] = [];
  let y = top;
  let last: GroupName | undefined;
  for (const { group, row, spreads } of rows) {
    if (group !== last) {
      y += titleHeight;
      parts.push(
        text(8, y - 6, `${groups[group].title}, of ${groups[group].rows[0].title}`, {
          kind: "title",
        }),
      );
      last = group;
    }
    parts.push(...rowOf(row, spreads, y, scale));
    y += spreads.length * lineHeight + rowGap;
  }
  const legend = results.map(({ node }, index) => [
    `<circle cx="${left + 130 * index}" cy="16" r="4" fill="${colour(index)}"/>`,
    text(left + 130 * index + 9, 20, `Node ${node.version}`),
  ]);
  const label = "CPU time of each row as a ratio to the first of its group";
  return picture({ width: left + width + 20, height: y + 16, label, description }, [
    text(8, 20, "CPU time, ratio; bars: quartiles"),
    ...legend.flat(),
    ...grid(scale, y),
    ...parts,
  ]);
}

function rowOf(row: Row, spreads: readonly Spread[], y: number, scale: Scale): string[] {
  const middle = y + (spreads.length * lineHeight) / 2;
  return [
    text(left - 10, middle + 4, row.title, { anchor: "end" }),
    ...spreads.flatMap(({ median, low, high }, index) => {
      const lineY = y + (index + 0.5) * lineHeight;
      const stroke = `stroke="${colour(index)}" stroke-width="2"`;
      return [
        `<line ${stroke} x1="${across(low, scale)}" x2="${across(high, scale)}" y1="${lineY}" y2="${lineY}"/>`,
        `<circle cx="${across(median, scale)}" cy="${lineY}" r="3" fill="${colour(index)}"/>`,
      ];
    }),
  ];
}

function grid(scale: Scale, bottom: number): string[] {
  const ticks = Array.from(
    { length: Math.round((scale.to - scale.from) / 0.25) + 1 },
    (_, index) => scale.from + index * 0.25,
  );
  return ticks.flatMap((tick) => {
    const x = across(tick, scale);
    const strong = tick === 1 ? ' stroke-width="2.5"' : "";
    return [
      `<line class="grid"${strong} x1="${x}" x2="${x}" y1="${top}" y2="${bottom}"/>`,
      text(x, top - 6, String(tick), { anchor: "middle" }),
    ];
  });
}

/** In steps of a quarter. */
function scaleOf(spreads: readonly Spread[]): Scale {
  const lows = spreads.map(({ low }) => low).filter(Number.isFinite);
  const highs = spreads.map(({ high }) => high).filter(Number.isFinite);
  return {
    from: Math.min(0.75, Math.floor(4 * Math.min(...lows)) / 4),
    to: Math.max(1.5, Math.ceil(4 * Math.max(...highs)) / 4),
  };
}

function across(ratio: number, { from, to }: Scale): number {
  return round(left + (width * (ratio - from)) / (to - from));
}

function colour(index: number): string {
  return colours[index % colours.length] ?? "#7d8590";
}
