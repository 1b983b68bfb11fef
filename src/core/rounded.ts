/** A time in milliseconds for attributes and logs: to a microsecond, which is finer than the clock means anything. */
export function rounded(ms: number): number {
  return Math.round(ms * 1_000) / 1_000;
}

/** A time as a person reads it: `82 ms`, and `3.4 ms` below ten. */
export function inMs(ms: number): string {
  return `${Math.abs(ms) < 10 ? Math.round(ms * 10) / 10 : Math.round(ms)} ms`;
}
