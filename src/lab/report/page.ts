import type { Incident, IncidentEvent } from "../incident.js";
import { percent, type Run, rowsOf } from "../table.js";
import { script, style } from "./page-assets.js";
import { panelRows, timeOf } from "./panels.js";
import { drawing, type Plot, type Series, ticks } from "./plot.js";
import { resultOf, verdicts } from "./verdict.js";

/** A comparison, as it is reported. */
export interface Comparison {
  readonly incident: Incident;
  /** The first is what the others are compared with. The first report of each has a timeline. */
  readonly runs: readonly Run[];
  readonly seeds: readonly number[];
  /** What was given: the scenario, and policies. */
  readonly given: readonly { readonly title: string; readonly value: unknown }[];
  /** What makes this report again. */
  readonly command: string;
  /** The version of the toolkit. */
  readonly version: string;
}

/** A page in a single file, which needs nothing else. Names may be anything: they are escaped. */
export function page(comparisonOf: Comparison): string {
  const { incident, runs, seeds, given, command, version } = comparisonOf;
  const timelines = runs.map(({ reports }) => reports[0]?.timeline);
  const known = timelines.filter((timeline) => timeline !== undefined);
  const rows = known.length === runs.length ? panelRows(incident, known) : [];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>${escaped(incident.name)} – grpc-weir simulate</title>
<style>${style}</style>
</head>
<body style="--columns: ${runs.length}">
<header>
<p class="kicker">grpc-weir simulate</p>
<h1>${escaped(incident.name)}</h1>
<p class="what">${escaped(incident.what)}</p>
${incident.wanted === "" ? "" : `<p class="wanted"><b>Wanted:</b> ${escaped(incident.wanted)}</p>`}
</header>
<main>
<section aria-labelledby="result">
<h2 id="result">Result</h2>
${verdicts(runs)
  .map((sentence) => `<p class="verdict">${escaped(sentence)}</p>`)
  .join("\n")}
<div class="cards">
${runs.map(card).join("\n")}
</div>
</section>
<section aria-labelledby="over-time">
<h2 id="over-time">Over time</h2>
<p class="note">The shaded time is that of the incident${
    (incident.events ?? []).length > 0 ? "; a dotted line is something that happens" : ""
  }. Seed ${seeds[0] ?? 1}. Point at a plot to read all of them at that moment; the numbers by phase are in the <a href="#numbers">table</a>.</p>
${happenings(incident)}
${rows.map(({ name, title, what, plots }) => panelRow(name, title, what, plots, runs)).join("\n")}
</section>
<section aria-labelledby="numbers">
<h2 id="numbers">Numbers</h2>
<p class="note">${seeds.length === 1 ? `Seed ${seeds[0]}` : `${seeds.length} seeds, from ${seeds[0]} on`}. A call belongs to the phase in which it was due. <i>amplif.</i>: requests that came to the servers, for each call. <i>back after</i>: how long after the incident the last tenth of a second was in which fewer calls than usual were good.</p>
${tableOf(incident, runs)}
</section>
<section aria-labelledby="again">
<h2 id="again">Run it again</h2>
<pre><code>${escaped(command)}</code></pre>
<p class="note">The same command gives the same numbers on every machine. Made by grpc-weir ${escaped(version)}.</p>
${given.map(({ title, value }) => `<details><summary>${escaped(title)}</summary><pre><code>${escaped(JSON.stringify(value, null, 2))}</code></pre></details>`).join("\n")}
</section>
</main>
<script>${script}</script>
</body>
</html>
`;
}

/** Text for HTML, in elements and in attributes. */
export function escaped(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return text.replaceAll(/[&<>"']/g, (character) => entities[character] ?? character);
}

function card(run: Run): string {
  const { peer, served, criticalServed, refused, p99Ms, amplification, back } = resultOf(run);
  const facts: [string, string][] = [
    ["critical calls served", percent(criticalServed)],
    ["refused", percent(refused)],
    ["highest p99", p99Ms === undefined ? "–" : `${Math.round(p99Ms)} ms`],
    ["back to normal", back],
    ["requests for each call", amplification.toFixed(2)],
  ];
  return `<article class="card">
<h3>${escaped(peer)}</h3>
<p class="big">${percent(served)}</p>
<p class="of">of the calls served in time</p>
<dl>${facts.map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`).join("")}</dl>
</article>`;
}

function panelRow(
  name: string,
  title: string,
  what: string,
  plots: readonly Plot[],
  runs: readonly Run[],
): string {
  return `<section class="row" aria-labelledby="row-${name}">
<h3 id="row-${name}">${escaped(title)}</h3>
<p class="note">${escaped(what)}</p>
<div class="columns">
${plots.map((plot, column) => figure(plot, runs[column]?.peer ?? "")).join("\n")}
</div>
</section>`;
}

/** The drawing is stretched to the width of its column; texts stand around it, so that they are not. */
const drawn = { x: 0, y: 0, width: 1_000, height: 200 };

function figure(plot: Plot, peer: string): string {
  const label = `${plot.title}, ${peer}`;
  const series = [...plot.areas, ...plot.lines];
  const yTicks = ticks(plot.most, 4).map(
    (value) =>
      `<span style="bottom:${share(value, plot.most)}">${escaped(plot.shown(value))}</span>`,
  );
  const xTicks = ticks(plot.time.endMs, 8).map(
    (ms) => `<span style="left:${share(ms, plot.time.endMs)}">${seconds(ms)}</span>`,
  );
  const data = series.map(({ values, stepMs }) => ({
    s: stepMs,
    v: values.map((value) => (value === undefined ? null : plot.shown(value))),
  }));
  return `<figure data-end="${plot.time.endMs}">
<figcaption>${escaped(peer)}</figcaption>
<div class="plot"><div class="y" aria-hidden="true">${yTicks.join("")}</div>
<svg viewBox="0 0 ${drawn.width} ${drawn.height}" preserveAspectRatio="none" role="img" aria-label="${escaped(label)}"><title>${escaped(label)}</title><desc>${escaped(described(series, plot))}</desc>
${drawing(plot, drawn)}
</svg><div class="x" aria-hidden="true">${xTicks.join("")}</div><i class="at" hidden></i></div>
<ul class="legend">${legend(series)}</ul>
<script type="application/json">${JSON.stringify(data).replaceAll("<", "\\u003c")}</script>
</figure>`;
}

function legend(series: readonly Series[]): string {
  if (series.length === 0) return "<li>none</li>";
  return series
    .map(({ label, tone }) => `<li><i class="key ${tone}"></i>${escaped(label)} <b></b></li>`)
    .join("");
}

/** What is to be seen, for those who do not see it. */
function described(series: readonly Series[], plot: Plot): string {
  if (series.length === 0) return "none";
  return series
    .map(({ label, values }) => {
      const known = values.filter((value) => value !== undefined);
      if (known.length === 0) return `${label}: none`;
      const [least, most] = [Math.min(...known), Math.max(...known)];
      return `${label}: from ${plot.shown(least)} to ${plot.shown(most)}`;
    })
    .join("; ");
}

function happenings(incident: Incident): string {
  const { events = [], phases } = incident;
  const items: [number, string][] = [];
  let atMs = 0;
  let before = 1;
  for (const { ms, load = 1 } of phases) {
    if (load !== before) {
      items.push([
        atMs,
        load === 1 ? "the load is as usual" : `the load is ${load} times the usual`,
      ]);
    }
    before = load;
    atMs += ms;
  }
  for (const event of events) items.push([event.atMs, happening(event)]);
  const { trouble } = timeOf(incident);
  if (items.length === 0 || trouble.untilMs === 0) return "";
  const shown = items.toSorted(([a], [b]) => a - b);
  const most = 12;
  const rest = shown.length > most ? `<li>and ${shown.length - most} more</li>` : "";
  return `<ul class="events">${shown
    .slice(0, most)
    .map(([ms, text]) => `<li><b>${seconds(ms)}</b> ${escaped(text)}</li>`)
    .join("")}${rest}</ul>`;
}

/** An event in words. */
function happening(event: IncidentEvent): string {
  const parts = Object.entries(event)
    .filter(([key]) => key !== "atMs" && key !== "event")
    .map(([key, value]) =>
      typeof value === "object" ? JSON.stringify(value) : `${key} ${String(value)}`,
    );
  return parts.length === 0 ? event.event : `${event.event}: ${parts.join(", ")}`;
}

function tableOf(incident: Incident, runs: readonly Run[]): string {
  const [head = [], ...body] = rowsOf(incident, runs);
  const cells = (row: readonly string[]) =>
    row
      .map((cell, column) =>
        column < 2 ? `<th scope="row">${escaped(cell)}</th>` : `<td>${escaped(cell)}</td>`,
      )
      .join("");
  return `<div class="scroll" tabindex="0" role="region" aria-label="Numbers by phase">
<table>
<thead><tr>${head.map((cell) => `<th scope="col">${escaped(cell)}</th>`).join("")}</tr></thead>
<tbody>
${body.map((row) => `<tr>${cells(row)}</tr>`).join("\n")}
</tbody>
</table>
</div>`;
}

function share(value: number, of: number): string {
  return `${Math.round((1_000 * value) / of) / 10}%`;
}

function seconds(ms: number): string {
  return `${Number((ms / 1_000).toFixed(2))} s`;
}
