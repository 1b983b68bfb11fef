/** Values over time, in equal steps from the beginning on. */
export interface Series {
  readonly label: string;
  /** The class that colours it: `good`, `refused-2`, `critical`. */
  readonly tone: string;
  /** `undefined` where there is none. */
  readonly values: readonly (number | undefined)[];
  readonly stepMs: number;
}

/** A plot over the time of a run. */
export interface Plot {
  readonly title: string;
  /** Stacked, the first one below. A value holds for its whole step. */
  readonly areas: readonly Series[];
  readonly lines: readonly Series[];
  /** Where the vertical axis ends, which begins at 0. What lies above is drawn at its end. */
  readonly most: number;
  /** What a value looks like, with its unit. */
  readonly shown: (value: number) => string;
  readonly time: PlotTime;
}

/** The horizontal axis: the time of a run. */
export interface PlotTime {
  readonly endMs: number;
  /** The part that is shaded: that of the incident. */
  readonly trouble: { readonly fromMs: number; readonly untilMs: number };
  /** When something happens. */
  readonly eventsMs: readonly number[];
}

/** A rectangle of a drawing. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** Round numbers from 0 to at most `most`, about as many as `count`. */
export function ticks(most: number, count: number): readonly number[] {
  const rough = most / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((each) => each * power >= rough) ?? 10);
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, index) => index * step);
}

/** The next round number that is not below a value, for the end of an axis. */
export function roundUp(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 1.5, 2, 3, 4, 5, 6, 8].find((each) => each * power >= value) ?? 10);
}

/** The marks of a plot as elements of SVG, without any text. */
export function drawing(plot: Plot, box: Box): string {
  const { trouble, eventsMs, endMs } = plot.time;
  const x = (ms: number) => box.x + (box.width * ms) / endMs;
  const y = (value: number) =>
    box.y + box.height * (1 - Math.min(Math.max(value, 0), plot.most) / plot.most);
  const parts: string[] = [];
  if (trouble.untilMs > trouble.fromMs) {
    const from = round(x(trouble.fromMs));
    const width = round(x(trouble.untilMs) - x(trouble.fromMs));
    parts.push(
      `<rect class="trouble" x="${from}" y="${box.y}" width="${width}" height="${box.height}"/>`,
    );
  }
  let below: readonly number[] = [];
  for (const { tone, values, stepMs } of plot.areas) {
    const from = below;
    const above = values.map((value, step) => (from[step] ?? 0) + (value ?? 0));
    if (values.some((value) => (value ?? 0) > 0)) {
      parts.push(`<path class="area ${tone}" d="${band(above, from, stepMs, endMs, x, y)}"/>`);
    }
    below = above;
  }
  const grid = ticks(plot.most, 4)
    .map((value) => `M${round(box.x)} ${round(y(value))}h${round(box.width)}`)
    .join("");
  parts.push(`<path class="grid" d="${grid}"/>`);
  for (const { tone, values, stepMs } of plot.lines) {
    const d = line(values, stepMs, endMs, x, y);
    if (d !== "") parts.push(`<path class="line ${tone}" d="${d}"/>`);
  }
  const marks = [...new Set(eventsMs)].map(
    (ms) => `M${round(x(ms))} ${round(box.y)}v${round(box.height)}`,
  );
  if (marks.length > 0) parts.push(`<path class="event" d="${marks.join("")}"/>`);
  return parts.join("\n");
}

type Scale = (value: number) => number;

/** The area between two stepped lines. */
function band(
  above: readonly number[],
  below: readonly number[],
  stepMs: number,
  endMs: number,
  x: Scale,
  y: Scale,
): string {
  const forth: Point[] = [];
  const back: Point[] = [];
  for (const [step, value] of above.entries()) {
    const fromX = x(step * stepMs);
    const untilX = x(Math.min((step + 1) * stepMs, endMs));
    forth.push([fromX, y(value)], [untilX, y(value)]);
    back.push([fromX, y(below[step] ?? 0)], [untilX, y(below[step] ?? 0)]);
  }
  return `${path([...forth, ...back.toReversed()])}z`;
}

/** A line through the values, with gaps where there are none. Those of a slice stand in its middle. */
function line(values: Series["values"], stepMs: number, endMs: number, x: Scale, y: Scale): string {
  const runs: Point[][] = [];
  let current: Point[] | undefined;
  for (const [step, value] of values.entries()) {
    if (value === undefined) {
      current = undefined;
      continue;
    }
    if (current === undefined) {
      current = [];
      runs.push(current);
    }
    current.push([x(Math.min((step + 0.5) * stepMs, endMs)), y(value)]);
  }
  return runs.map((points) => path(points.length === 1 ? [...points, ...points] : points)).join("");
}

type Point = readonly [x: number, y: number];

/** A path without the points that lie on the way between their neighbours. */
function path(points: readonly Point[]): string {
  const kept: Point[] = [];
  for (const [px, py] of points) {
    const point: Point = [round(px), round(py)];
    const last = kept.at(-1);
    const before = kept.at(-2);
    if (last !== undefined && before !== undefined && between(before, last, point)) kept.pop();
    kept.push(point);
  }
  return kept
    .map(([px, py], index) => {
      const before = kept[index - 1];
      if (before === undefined) return `M${px} ${py}`;
      if (before[1] === py) return before[0] === px ? "" : `H${px}`;
      return before[0] === px ? `V${py}` : `L${px} ${py}`;
    })
    .join("");
}

/** Whether a point lies on a straight way, along one of the axes, from one to another. */
function between(from: Point, point: Point, to: Point): boolean {
  const along = (axis: 0 | 1, other: 0 | 1) =>
    from[other] === point[other] &&
    point[other] === to[other] &&
    (point[axis] - from[axis]) * (to[axis] - point[axis]) >= 0;
  return along(0, 1) || along(1, 0);
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
