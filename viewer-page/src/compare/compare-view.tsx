import { useEffect, useMemo, useState } from "preact/hooks";
import type { DemoCounts, DemoSlider, DemoState } from "../../../src/viewer/api.js";
import { Chart } from "../board/chart.js";
import type { Series } from "../board/series.js";
import { formatCount, formatMs, formatRate, formatShare } from "../format.js";
import { useLatest, useObservable } from "../hooks.js";
import type { DemoModel } from "./demo-model.js";

const dashes: readonly (readonly number[])[] = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
const colors = ["--c0", "--c1", "--c7", "--c3"];

/** How long a slider must rest before the demo is told. */
const restMs = 120;

export function CompareView({ model }: { readonly model: DemoModel }) {
  const demo = useObservable(model.state);
  const asked = useObservable(model.asked);
  const problem = useObservable(model.problem);
  if (demo === undefined) {
    return (
      <div class="empty">
        <h1>Compare</h1>
        <p>{asked ? "No demo runs beside this viewer." : "Loading…"}</p>
      </div>
    );
  }
  return (
    <section class="compare" aria-labelledby="compare-title">
      <header class="compare-head">
        <h1 id="compare-title">{demo.title}</h1>
        <p role="status">
          <strong>{demo.running ? "Running" : "Stopped"}</strong>
          {demo.phase === "" ? "" : `: ${demo.phase}`}
        </p>
        <span class="grow" />
        <button
          type="button"
          class="primary"
          data-view-focus
          onClick={() => model.change({ command: demo.running ? "stop" : "start" })}
        >
          {demo.running ? "Stop" : "Start"}
        </button>
        <button type="button" onClick={() => model.change({ command: "reset" })}>
          Reset
        </button>
      </header>
      {problem === undefined ? null : (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      {demo.sliders.length === 0 ? null : (
        <fieldset class="sliders">
          <legend>Make it worse, or better</legend>
          {demo.sliders.map((slider) => (
            <Slider
              key={slider.name}
              slider={slider}
              onChange={(value) => model.change({ [slider.name]: value })}
            />
          ))}
        </fieldset>
      )}
      <DemoCharts demo={demo} />
      <DemoTable demo={demo} />
    </section>
  );
}

function Slider({
  slider: { name, label, unit, min, max, step, value },
  onChange,
}: {
  readonly slider: DemoSlider;
  readonly onChange: (value: number) => void;
}) {
  /** What the reader has set, until the demo has taken it over. */
  const [set, setSet] = useState<number | undefined>(undefined);
  const latest = useLatest(onChange);
  useEffect(() => {
    if (set === undefined) return undefined;
    const timer = setTimeout(() => latest.current(set), restMs);
    return () => clearTimeout(timer);
  }, [set, latest]);
  useEffect(() => setSet(undefined), [value]);
  const shown = set ?? value;
  const id = `slider-${name}`;
  return (
    <div class="slider">
      <label for={id}>{label}</label>
      <output for={id} class="num">
        {formatRate(shown)} {unit}
      </output>
      <input
        id={id}
        type="range"
        min={min}
        max={max}
        step={step}
        value={shown}
        aria-valuetext={`${formatRate(shown)} ${unit}`}
        onInput={({ currentTarget }) => setSet(currentTarget.valueAsNumber)}
      />
    </div>
  );
}

function DemoCharts({ demo: { seconds, ways } }: { readonly demo: DemoState }) {
  const charts = useMemo(() => {
    const lines = (value: (name: string, index: number) => number | null): readonly Series[] =>
      ways.map(({ name, title }, way) => ({
        label: title,
        color: colors[way % colors.length] ?? "--c0",
        dash: dashes[way % dashes.length] ?? [],
        values: seconds.map((_, index) => value(name, index)),
      }));
    return {
      timesMs: seconds.map(({ atMs }) => atMs),
      served: lines((name, index) => seconds[index]?.ways[name]?.ok ?? null),
      critical: lines((name, index) => shareOf(seconds[index]?.ways[name], true) ?? null),
      p99: lines((name, index) => seconds[index]?.ways[name]?.p99Ms ?? null),
    };
  }, [seconds, ways]);
  if (seconds.length === 0) return null;
  return (
    <div class="charts">
      <Chart
        title="Served"
        unit="OK calls per second"
        timesMs={charts.timesMs}
        series={charts.served}
        format={formatRate}
      />
      <Chart
        title="Critical calls served"
        unit="share of those sent"
        timesMs={charts.timesMs}
        series={charts.critical}
        format={formatShare}
      />
      <Chart
        title="p99"
        unit="of served calls"
        timesMs={charts.timesMs}
        series={charts.p99}
        format={formatMs}
      />
    </div>
  );
}

function shareOf(counts: DemoCounts | undefined, critical: boolean): number | undefined {
  if (counts === undefined) return undefined;
  const sent = critical ? counts.sentCritical : counts.sent;
  return sent === 0 ? undefined : (critical ? counts.okCritical : counts.ok) / sent;
}

function DemoTable({ demo: { table, ways } }: { readonly demo: DemoState }) {
  if (table.length === 0) return <p class="empty">The table fills as the demo runs.</p>;
  return (
    // Scrolls by itself, so the keyboard must reach it.
    <div class="table-scroller" tabIndex={0} role="region" aria-label="Served calls by phase">
      <table class="plain-table compare-table">
        <thead>
          <tr>
            <th scope="col" rowSpan={2}>
              Phase
            </th>
            {ways.map(({ name, title }) => (
              <th scope="colgroup" colSpan={2} key={name}>
                {title}
              </th>
            ))}
          </tr>
          <tr>
            {ways.flatMap(({ name }) => [
              <th scope="col" class="num" key={`${name} all`}>
                served
              </th>,
              <th scope="col" class="num" key={`${name} critical`}>
                critical
              </th>,
            ])}
          </tr>
        </thead>
        <tbody>
          {table.map(({ phase, ways: counts }) => {
            const best = (critical: boolean) =>
              Math.max(...ways.map(({ name }) => shareOf(counts[name], critical) ?? 0));
            return (
              <tr key={phase}>
                <th scope="row">{phase}</th>
                {ways.flatMap(({ name }) =>
                  [false, true].map((critical) => (
                    <ShareCell
                      key={`${name} ${critical}`}
                      counts={counts[name]}
                      critical={critical}
                      best={best(critical)}
                    />
                  )),
                )}
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

function ShareCell({
  counts,
  critical,
  best,
}: {
  readonly counts: DemoCounts | undefined;
  readonly critical: boolean;
  readonly best: number;
}) {
  const share = shareOf(counts, critical);
  if (counts === undefined || share === undefined) return <td class="num faint">–</td>;
  const ok = critical ? counts.okCritical : counts.ok;
  const sent = critical ? counts.sentCritical : counts.sent;
  return (
    <td class={`num ${share === best ? "best" : ""}`}>
      <span>{formatShare(share)}</span>{" "}
      <span class="faint of-count">
        {formatCount(ok)} of {formatCount(sent)}
      </span>
    </td>
  );
}
