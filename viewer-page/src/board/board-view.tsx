import { useMemo } from "preact/hooks";
import { formatMs, formatRate } from "../format.js";
import { useObservable } from "../hooks.js";
import type { BoardModel } from "./board-model.js";
import { BreakerBands } from "./breaker-bands.js";
import { Chart } from "./chart.js";
import { admissionOf, goodputOf, latencyOf, refusalsOf } from "./series.js";

export function BoardView({ model }: { readonly model: BoardModel }) {
  const known = useObservable(model.points);
  const points = known ?? [];
  const charts = useMemo(() => {
    const of = known ?? [];
    return {
      timesMs: of.map(({ atMs }) => atMs),
      goodput: goodputOf(of),
      refusals: refusalsOf(of),
      latency: latencyOf(of),
      admission: admissionOf(of),
    };
  }, [known]);
  if (points.length === 0) {
    return (
      <div class="empty">
        <h1>Board</h1>
        <p>{known === undefined ? "Loading…" : "No calls yet. The charts begin with the first."}</p>
      </div>
    );
  }
  const { timesMs } = charts;
  return (
    <section class="board" aria-labelledby="board-title">
      <h1 id="board-title" class="visually-hidden">
        Board
      </h1>
      <div class="charts" data-view-focus tabIndex={-1}>
        <Chart
          title="Goodput by priority"
          unit="OK calls per second"
          stacked
          timesMs={timesMs}
          series={charts.goodput}
          format={formatRate}
        />
        <Chart
          title="Refusals and failures"
          unit="calls per second, by reason"
          stacked
          timesMs={timesMs}
          series={charts.refusals}
          format={formatRate}
        />
        <Chart
          title="Latency"
          unit="of all calls"
          timesMs={timesMs}
          series={charts.latency}
          format={formatMs}
        />
        <Chart
          title="Admission"
          unit="calls, by service"
          timesMs={timesMs}
          series={charts.admission}
          format={formatRate}
        />
        <BreakerBands points={points} />
      </div>
    </section>
  );
}
