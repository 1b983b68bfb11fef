import type { BoardPoint, BreakerState } from "../../../src/viewer/api.js";

/** One line, or one layer of a stack. */
export interface Series {
  readonly label: string;
  /** The custom property of the style sheet that holds its colour. */
  readonly color: string;
  readonly values: readonly (number | null)[];
  /** Lengths of dashes and gaps; absent for a solid line. */
  readonly dash?: readonly number[];
}

/** The server keeps so many seconds. */
const maxPoints = 600;

/** Points by time, each second once: a second that is told again has changed. */
export function withPoints(
  points: readonly BoardPoint[],
  more: readonly BoardPoint[],
): readonly BoardPoint[] {
  const byTime = new Map([...points, ...more].map((point) => [point.atMs, point]));
  return [...byTime.values()].sort((a, b) => a.atMs - b.atMs).slice(-maxPoints);
}

const priorityOrder = ["critical", "high", "normal", "low", ""];
const priorityColors = ["--c0", "--c6", "--c2", "--c5", "--c7"];

export function goodputOf(points: readonly BoardPoint[]): readonly Series[] {
  const seen = keysOf(points, ({ goodput }) => goodput);
  const known = priorityOrder.filter((priority) => seen.includes(priority));
  const others = seen.filter((priority) => !priorityOrder.includes(priority));
  return [...known, ...others].map((priority) => ({
    label: priority === "" ? "no priority" : priority,
    color: priorityColors[priorityOrder.indexOf(priority)] ?? "--c3",
    values: points.map(({ goodput }) => numberOf(goodput, priority) ?? 0),
  }));
}

/** What did not go well: refusals by reason, and other failures. */
export function refusalsOf(points: readonly BoardPoint[]): readonly Series[] {
  const reasons = keysOf(points, ({ refusals }) => refusals);
  const refused = reasons.map((reason, index) => ({
    label: reason,
    color: `--c${(index + 1) % 8}`,
    values: points.map(({ refusals }) => numberOf(refusals, reason) ?? 0),
  }));
  const values = points.map(({ failures }) => failures);
  return [...refused, { label: "other failures", color: "--failed", values }];
}

export function latencyOf(points: readonly BoardPoint[]): readonly Series[] {
  return [
    { label: "p50", color: "--c0", values: points.map(({ p50Ms }) => p50Ms) },
    { label: "p99", color: "--c1", dash: [6, 3], values: points.map(({ p99Ms }) => p99Ms) },
  ];
}

/** Limit, running and queue of each service: a colour for each service, a dash for each gauge. */
export function admissionOf(points: readonly BoardPoint[]): readonly Series[] {
  const gauges = [
    { name: "running", of: (point: BoardPoint) => point.running },
    { name: "limit", of: (point: BoardPoint) => point.limit, dash: [8, 4] },
    { name: "queue", of: (point: BoardPoint) => point.queue, dash: [2, 3] },
  ] as const;
  const services = [...new Set(gauges.flatMap(({ of }) => keysOf(points, of)))].sort();
  return services.flatMap((service, index) =>
    gauges
      .filter(({ of }) => points.some((point) => Object.hasOwn(of(point), service)))
      .map(({ name, of, ...rest }) => ({
        label: services.length === 1 ? name : `${service} ${name}`,
        color: `--c${index % 8}`,
        values: points.map((point) => numberOf(of(point), service) ?? null),
        ...rest,
      })),
  );
}

/** Names come from other programs: a record without an entry `constructor` has something of that name all the same. */
function numberOf(record: Readonly<Record<string, number>>, name: string): number | undefined {
  return Object.hasOwn(record, name) ? record[name] : undefined;
}

function keysOf(
  points: readonly BoardPoint[],
  of: (point: BoardPoint) => Readonly<Record<string, number>>,
): readonly string[] {
  return [...new Set(points.flatMap((point) => Object.keys(of(point))))].sort();
}

/** A time in which a circuit breaker stayed in one state. */
export interface Band {
  readonly state: BreakerState;
  readonly fromMs: number;
  readonly toMs: number;
}

/** The states of each circuit breaker over time, by its key. */
export function breakerBandsOf(
  points: readonly BoardPoint[],
): ReadonlyMap<string, readonly Band[]> {
  const bands = new Map<string, Band[]>();
  let beforeMs = points[0]?.atMs ?? 0;
  for (const { atMs, breakers } of points) {
    for (const [key, state] of Object.entries(breakers)) {
      const ofKey = bands.get(key) ?? [];
      bands.set(key, ofKey);
      const last = ofKey.at(-1);
      if (last?.state === state && last.toMs === beforeMs) {
        ofKey[ofKey.length - 1] = { ...last, toMs: atMs };
      } else {
        ofKey.push({ state, fromMs: beforeMs, toMs: atMs });
      }
    }
    beforeMs = atMs;
  }
  return new Map([...bands].sort(([a], [b]) => a.localeCompare(b)));
}
