/** A part of time that the waterfall shows, from the start of the trace in milliseconds. */
export interface TimeRange {
  readonly fromMs: number;
  readonly toMs: number;
}

/** Where a time stands in the range: 0 at its beginning, 1 at its end, beyond them outside of it. */
export function positionIn(range: TimeRange, atMs: number): number {
  const lengthMs = range.toMs - range.fromMs;
  return lengthMs > 0 ? (atMs - range.fromMs) / lengthMs : 0;
}

/** The times of at most `most` marks of a scale: steps of 1, 2 or 5 times a power of ten. */
export function ticksOf(range: TimeRange, most: number): readonly number[] {
  const lengthMs = range.toMs - range.fromMs;
  if (!(lengthMs > 0) || most < 1) return [];
  const least = lengthMs / most;
  const power = 10 ** Math.floor(Math.log10(least));
  const factor = [1, 2, 5, 10].find((candidate) => candidate * power >= least * (1 - 1e-9)) ?? 10;
  const step = factor * power;
  const ticks: number[] = [];
  for (let index = Math.ceil(range.fromMs / step - 1e-9); index * step <= range.toMs; index += 1) {
    // The power may be a fraction, which binary numbers hold inexactly.
    ticks.push(Number((index * step).toPrecision(12)));
  }
  return ticks;
}
