import { useMemo } from "preact/hooks";
import { formatMs, formatShare } from "../format.js";
import { timeSpentIn } from "./time-spent.js";
import type { SpanNode } from "./tree.js";

/** More parts than these are in the strip only. */
const maxWords = 5;

/** Where the time of a call went: as a strip, and in words. */
export function TimeSpent({
  call,
  colors,
}: {
  readonly call: SpanNode;
  readonly colors: ReadonlyMap<string, string>;
}) {
  const shares = useMemo(() => timeSpentIn(call), [call]);
  const totalMs = shares.reduce((sum, { ms }) => sum + ms, 0);
  if (totalMs === 0) return null;
  return (
    <div class="time-spent">
      <div class="time-strip" aria-hidden="true">
        {shares.map(({ what, kind, service, ms }) => (
          <span
            key={what}
            class={`time-part time-${kind}`}
            data-color={colors.get(service)}
            style={{ width: `${(100 * ms) / totalMs}%` }}
            title={`${what}: ${formatMs(ms)}`}
          />
        ))}
      </div>
      <ul class="time-words" aria-label="Where the time went">
        {shares.slice(0, maxWords).map(({ what, kind, service, ms }) => (
          <li key={what}>
            <span
              class={`time-key time-${kind}`}
              data-color={colors.get(service)}
              aria-hidden="true"
            />
            {what} <strong class="num">{formatMs(ms)}</strong>{" "}
            <span class="faint">{formatShare(ms / totalMs)}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}
