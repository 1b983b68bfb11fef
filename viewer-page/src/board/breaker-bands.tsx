import { useMemo } from "preact/hooks";
import type { BoardPoint } from "../../../src/viewer/api.js";
import { formatClock, formatMs } from "../format.js";
import { breakerBandsOf } from "./series.js";

/** The states of the circuit breakers over time, one line each. */
export function BreakerBands({ points }: { readonly points: readonly BoardPoint[] }) {
  const bands = useMemo(() => breakerBandsOf(points), [points]);
  const fromMs = points[0]?.atMs ?? 0;
  const lengthMs = Math.max(1, (points.at(-1)?.atMs ?? 0) - fromMs);
  const percent = (ms: number) => `${(100 * ms) / lengthMs}%`;
  return (
    <figure class="chart chart-wide" aria-label="Circuit breakers">
      <figcaption>
        <h2>Circuit breakers</h2>
        <span class="faint">state by key</span>
      </figcaption>
      {bands.size === 0 ? <p class="faint">No circuit breaker has reported its state.</p> : null}
      <ul class="bands">
        {[...bands].map(([key, ofKey]) => {
          const last = ofKey.at(-1);
          return (
            <li key={key}>
              <span class="band-head">
                <span class="band-key">{key}</span>
                {last === undefined ? null : (
                  <span class={`band-state band-state-${last.state}`}>
                    {last.state} for {formatMs(last.toMs - last.fromMs)}
                  </span>
                )}
              </span>
              <span class="band-track" aria-hidden="true">
                {ofKey.map((band) => (
                  <span
                    key={band.fromMs}
                    class={`band band-${band.state}`}
                    title={`${band.state} from ${formatClock(band.fromMs)}, ${formatMs(band.toMs - band.fromMs)}`}
                    style={{
                      left: percent(band.fromMs - fromMs),
                      width: percent(band.toMs - band.fromMs),
                    }}
                  />
                ))}
              </span>
            </li>
          );
        })}
      </ul>
      {bands.size === 0 ? null : (
        <ul class="chart-legend">
          {(["closed", "half-open", "open"] as const).map((state) => (
            <li key={state}>
              <span class={`band-sample band-${state}`} aria-hidden="true" />
              {state}
            </li>
          ))}
        </ul>
      )}
    </figure>
  );
}
