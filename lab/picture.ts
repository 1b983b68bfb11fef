import type { Incident } from "../src/lab/incident.js";
import { escaped } from "../src/lab/report/page.js";
import { tones } from "../src/lab/report/page-assets.js";
import { type PanelRow, panelRows } from "../src/lab/report/panels.js";
import { type Box, drawing, type Plot, ticks } from "../src/lab/report/plot.js";
import { resultOf } from "../src/lab/report/verdict.js";
import { percent, type Run } from "../src/lab/table.js";

const left = 52;
const column = { width: 360, gap: 66 };
const plot = { height: 110, top: 30, bottom: 42 };
const headHeight = 30;

/** The picture of an incident for the documents: what became of the calls, and which were served, with each of the compared. */
export function picture(incident: Incident, runs: readonly Run[]): string {
  const timelines = runs
    .map(({ reports }) => reports[0]?.timeline)
    .filter((each) => each !== undefined);
  const rows = panelRows(incident, timelines).filter(({ name }) =>
    ["calls", "priorities"].includes(name),
  );
  const width = left + runs.length * column.width + (runs.length - 1) * column.gap + 14;
  const rowHeight = plot.top + plot.height + plot.bottom;
  const height = headHeight + rows.length * rowHeight;
  const label = `${incident.what} ${runs.map(served).join("; ")}.`;
  const parts = runs.map((run, at) => {
    const x = left + at * (column.width + column.gap);
    return `<text class="head" x="${x}" y="20">${escaped(run.peer)}: ${percent(resultOf(run).served)} served in time</text>`;
  });
  for (const [line, row] of rows.entries()) {
    const y = headHeight + line * rowHeight + plot.top;
    parts.push(`<text class="title" x="${left}" y="${y - 12}">${escaped(row.title)}</text>`);
    for (const [at, each] of row.plots.entries()) {
      const x = left + at * (column.width + column.gap);
      parts.push(panel(each, { x, y, width: column.width, height: plot.height }));
    }
    parts.push(legend(row, left, y + plot.height + 34));
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="title desc">
<title id="title">${escaped(incident.name)}, over time</title>
<desc id="desc">${escaped(label)}</desc>
<style>
text { font: 11px system-ui, sans-serif; fill: #59636e }
.head, .title { font-weight: 600; fill: #1f2328 }
.head { font-size: 14px }
.trouble{fill:#8c959f;fill-opacity:.16}.grid{stroke:#8c959f;stroke-opacity:.3;fill:none}.event{stroke:#8c959f;stroke-dasharray:2 3;fill:none}
.key{fill:var(--tone)}${tones.trimEnd()}
@media (prefers-color-scheme: dark) {
text { fill: #9198a1 }
.head, .title { fill: #e6edf3 }
}
</style>
${parts.join("\n")}
</svg>
`;
}

function served(run: Run): string {
  return `${run.peer} serves ${percent(resultOf(run).served)} in time`;
}

function panel(each: Plot, box: Box): string {
  const { most, shown, time } = each;
  const y = (value: number) => Math.round(box.y + box.height * (1 - value / most));
  const x = (ms: number) => Math.round(box.x + (box.width * ms) / time.endMs);
  const yTicks = ticks(most, 3).map(
    (value) =>
      `<text x="${box.x - 6}" y="${y(value) + 4}" text-anchor="end">${escaped(shown(value))}</text>`,
  );
  const xTicks = ticks(time.endMs, 7).map(
    (ms) =>
      `<text x="${x(ms)}" y="${box.y + box.height + 14}" text-anchor="middle">${ms / 1_000} s</text>`,
  );
  return [drawing(each, box), ...yTicks, ...xTicks].join("\n");
}

/** One for all plots of a row: each reason has the same colour in all of them. */
function legend({ plots }: PanelRow, x: number, y: number): string {
  const entries = new Map<string, string>();
  for (const { areas, lines } of plots) {
    for (const { label, tone } of [...areas, ...lines]) entries.set(label, tone);
  }
  let at = x;
  return [...entries]
    .map(([label, tone]) => {
      const mark = `<rect class="key ${tone}" x="${at}" y="${y - 9}" width="10" height="10" rx="2"/><text x="${at + 15}" y="${y}">${escaped(label)}</text>`;
      at += 36 + 6.3 * label.length;
      return mark.replace(/x="([\d.]+)"/g, (_, number) => `x="${Math.round(Number(number))}"`);
    })
    .join("\n");
}
