import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { formatClock } from "../format.js";
import { useLatest, useMedia, useObservable, useSize } from "../hooks.js";
import { theme } from "../preferences.js";
import type { Series } from "./series.js";

const plotHeight = 170;

/** The table of values shows so many of the newest. */
const tableRows = 30;

/** Values over time: lines, or layers on top of each other. The values under the cursor stand in the legend. */
export function Chart({
  title,
  unit,
  timesMs,
  series,
  stacked = false,
  format,
  onCursor,
}: {
  readonly title: string;
  readonly unit: string;
  readonly timesMs: readonly number[];
  readonly series: readonly Series[];
  readonly stacked?: boolean;
  readonly format: (value: number) => string;
  readonly onCursor?: (atMs: number | undefined) => void;
}) {
  const box = useRef<HTMLDivElement>(null);
  const { width } = useSize(box);
  const [cursor, setCursor] = useState<number | undefined>(undefined);
  const [tableOpen, setTableOpen] = useState(false);
  const chosenTheme = useObservable(theme);
  const systemDark = useMedia("(prefers-color-scheme: dark)");
  const plot = useRef<uPlot>(undefined);
  const data = useMemo(() => dataOf(timesMs, series, stacked), [timesMs, series, stacked]);
  const latest = useLatest({ data, width, series, format, onCursor, timesMs });
  const shape = series.map(({ label, color }) => `${label} ${color}`).join("\n");
  const measured = width > 0;

  useEffect(() => {
    const element = box.current;
    if (element === null || !measured) return undefined;
    const { current } = latest;
    const made = new uPlot(
      optionsOf(element, current.series, stacked, current.width, {
        format: (value) => latest.current.format(value),
        onCursor: (index) => {
          setCursor(index);
          const atMs = index === undefined ? undefined : latest.current.timesMs[index];
          latest.current.onCursor?.(atMs);
        },
      }),
      current.data,
      element,
    );
    plot.current = made;
    return () => {
      plot.current = undefined;
      made.destroy();
    };
    // Colours are read when the plot is made.
  }, [measured, shape, stacked, chosenTheme, systemDark, latest]);
  useEffect(() => plot.current?.setSize({ width, height: plotHeight }), [width]);
  useEffect(() => plot.current?.setData(data), [data]);

  const at = cursor !== undefined && cursor < timesMs.length ? cursor : timesMs.length - 1;
  const atMs = timesMs[at];
  // The legend of a stack is in the order of its layers.
  const legend = stacked ? [...series].reverse() : series;
  return (
    <figure class="chart" aria-label={title}>
      <figcaption>
        <h2>{title}</h2>
        <span class="faint">{unit}</span>
        <span class="grow" />
        <span class="faint num">{atMs === undefined ? "" : formatClock(atMs).slice(0, 8)}</span>
      </figcaption>
      <div class="plot" ref={box} aria-hidden="true" />
      <ul class="chart-legend">
        {legend.map(({ label, color, dash, values }) => (
          <li key={label}>
            <svg class="line-key" viewBox="0 0 22 10" width="22" height="10" aria-hidden="true">
              {stacked ? (
                <rect width="22" height="10" rx="2" style={{ fill: `var(${color})` }} />
              ) : (
                <line
                  x1="0"
                  x2="22"
                  y1="5"
                  y2="5"
                  stroke-width="2.5"
                  stroke-dasharray={dash?.join(" ")}
                  style={{ stroke: `var(${color})` }}
                />
              )}
            </svg>
            {label} <strong class="num">{textAt(values[at], format)}</strong>
          </li>
        ))}
      </ul>
      <details onToggle={({ currentTarget }) => setTableOpen(currentTarget.open)}>
        <summary>Values</summary>
        {tableOpen ? (
          // Scrolls by itself, so the keyboard must reach it.
          <div class="table-scroller" tabIndex={0} role="region" aria-label={`${title}, values`}>
            <table class="plain-table">
              <thead>
                <tr>
                  <th scope="col">Time</th>
                  {series.map(({ label }) => (
                    <th scope="col" class="num" key={label}>
                      {label}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {newestOf(timesMs).map((index) => (
                  <tr key={timesMs[index]}>
                    <th scope="row" class="num">
                      {formatClock(timesMs[index] ?? 0).slice(0, 8)}
                    </th>
                    {series.map(({ label, values }) => (
                      <td class="num" key={label}>
                        {textAt(values[index], format)}
                      </td>
                    ))}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        ) : null}
      </details>
    </figure>
  );
}

function textAt(value: number | null | undefined, format: (value: number) => string): string {
  return value === null || value === undefined ? "–" : format(value);
}

function newestOf(timesMs: readonly number[]): readonly number[] {
  const count = Math.min(tableRows, timesMs.length);
  return Array.from({ length: count }, (_, index) => timesMs.length - 1 - index);
}

/** A layer of a stack stands on the sum of those below it. */
function dataOf(
  timesMs: readonly number[],
  series: readonly Series[],
  stacked: boolean,
): uPlot.AlignedData {
  const below = timesMs.map(() => 0);
  const rows = series.map(({ values }) => {
    if (!stacked) return [...values];
    return values.map((value, index) => {
      const sum = (below[index] ?? 0) + (value ?? 0);
      below[index] = sum;
      return sum;
    });
  });
  return [timesMs.map((atMs) => atMs / 1_000), ...rows];
}

function optionsOf(
  element: HTMLElement,
  series: readonly Series[],
  stacked: boolean,
  width: number,
  {
    format,
    onCursor,
  }: {
    readonly format: (value: number) => string;
    readonly onCursor: (index: number | undefined) => void;
  },
): uPlot.Options {
  const color = (property: string) => colorIn(element, property);
  const text = color("--text-faint");
  const axis: uPlot.Axis = {
    stroke: text,
    font: "11px system-ui, sans-serif",
    grid: { stroke: color("--line"), width: 1 },
    ticks: { show: false },
  };
  return {
    width,
    height: plotHeight,
    legend: { show: false },
    cursor: { sync: { key: "board" }, drag: { x: false, y: false }, points: { size: 6 } },
    padding: [8, 8, 0, 0],
    scales: { y: { range: (_plot, _min, max) => [0, max > 0 ? max * 1.08 : 1] } },
    axes: [
      {
        ...axis,
        size: 24,
        space: 70,
        values: (_plot, seconds) => seconds.map((at) => formatClock(at * 1_000).slice(0, 8)),
      },
      {
        ...axis,
        size: 58,
        space: 32,
        values: (_plot, values) => values.map((value) => format(value)),
      },
    ],
    series: [
      {},
      ...series.map((one) => ({
        label: one.label,
        stroke: color(one.color),
        width: stacked ? 1 : 2,
        points: { show: false },
        ...(stacked ? { fill: color(one.color) } : {}),
        ...(one.dash === undefined ? {} : { dash: [...one.dash] }),
      })),
    ],
    bands: stacked
      ? series.slice(1).map((_, index): uPlot.Band => ({ series: [index + 2, index + 1] }))
      : [],
    hooks: { setCursor: [({ cursor }) => onCursor(cursor.idx ?? undefined)] },
  };
}

/** The colour that a custom property has here and now: a canvas knows no custom properties. */
function colorIn(element: HTMLElement, property: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${property})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
