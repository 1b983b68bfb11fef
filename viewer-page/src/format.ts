/** A duration with three digits and the unit that fits: `350 µs`, `3.4 ms`, `124 ms`, `1.24 s`, `2 min 5 s`. */
export function formatMs(ms: number): string {
  if (!Number.isFinite(ms)) return "–";
  if (ms < 0) return `−${formatMs(-ms)}`;
  const rounded = Number(ms.toPrecision(3));
  if (rounded < 0.001) return "0 ms";
  if (rounded < 1) return `${Math.round(rounded * 1_000)} µs`;
  if (rounded < 10) return `${Number(rounded.toFixed(1))} ms`;
  if (rounded < 1_000) return `${Math.round(rounded)} ms`;
  if (rounded < 60_000) return `${rounded / 1_000} s`;
  const seconds = Math.round(ms / 1_000);
  const rest = seconds % 60;
  return `${Math.floor(seconds / 60)} min${rest === 0 ? "" : ` ${rest} s`}`;
}

/** A whole number with thin groups: `12 345`. */
export function formatCount(count: number): string {
  return Math.round(count)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** A rate or a gauge: whole from 10 on, one decimal below. */
export function formatRate(value: number): string {
  return Math.abs(value) >= 10 ? formatCount(value) : String(Number(value.toFixed(1)));
}

/** `0.824` → `82 %`. A share that is not all is never shown as all, and one that is not none never as none. */
export function formatShare(share: number): string {
  if (!Number.isFinite(share)) return "–";
  const percent = share * 100;
  if (percent > 0 && percent < 1) return "< 1 %";
  if (percent < 100 && percent > 99) return `${Math.floor(percent * 10) / 10} %`;
  return `${Math.round(percent)} %`;
}

/** The time of day with milliseconds, in the time zone of the reader. */
export function formatClock(atMs: number): string {
  const at = new Date(atMs);
  const two = (part: number) => String(part).padStart(2, "0");
  const ms = String(at.getMilliseconds()).padStart(3, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${ms}`;
}

/** `1 span`, `2 spans`. */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}
