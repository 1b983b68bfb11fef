import type { Clock } from "../core/clock.js";
import type { BoardPoint, BreakerState, CallRow } from "./api.js";
import type { GaugeName, GaugeReading } from "./otlp/gauges.js";

/**
 * What a process says of itself, each second.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md
 */
export interface BoardSample {
  /** Calls that wait in a queue. */
  readonly queue?: number;
  /** How many calls the server runs at a time, at most. */
  readonly limit?: number;
  /** Calls that it runs. */
  readonly running?: number;
  /** Circuit breakers by key. */
  readonly breakers?: Readonly<Record<string, BreakerState>>;
}

/** The board goes back so many seconds. */
const maxSeconds = 600;
/** Different priorities or reasons in one second; the others count as `other`. */
const maxNames = 50;
/** Series of gauges; further ones are not shown. */
const maxSeries = 500;
/** The characters of what tells a series from others. The toolkit's own names are shorter; a longer one is not shown. */
const maxSeriesText = 1_000;
/** A gauge is shown for so long after its last reading. Exporters send one each minute, if they are not told otherwise. */
const gaugeStaysMs = 150_000;

/** Calls and gauges by the second, for the last ten minutes. */
export class Board {
  readonly #clock: Pick<Clock, "now" | "wallNow">;
  /** By number: seconds since the epoch. */
  readonly #seconds = new Map<number, Second>();
  readonly #gauges = new Map<string, { readonly reading: GaugeReading; readonly atMs: number }>();
  /** The newest second that is over and has its point. */
  #closed: number;
  /** Seconds that have changed since they were over. */
  readonly #changed = new Set<number>();

  constructor(clock: Pick<Clock, "now" | "wallNow">) {
    this.#clock = clock;
    this.#closed = this.#present - 1;
  }

  /** Counts a call in the second in which it ended. */
  addCall(call: CallRow): void {
    const present = this.#present;
    // A span may be from a clock that runs ahead.
    const second = Math.min(present, Math.floor((call.startMs + call.durationMs) / 1000));
    if (second <= present - maxSeconds) return;
    this.#at(second).count(call);
    if (second <= this.#closed) this.#changed.add(second);
  }

  setGauge(reading: GaugeReading): void {
    const { name, service, attributes } = reading;
    const series = JSON.stringify([name, service, attributes]);
    if (series.length > maxSeriesText) return;
    if (this.#gauges.size >= maxSeries && !this.#gauges.has(series)) return;
    this.#gauges.set(series, { reading, atMs: this.#clock.now() });
  }

  /**
   * Ends the seconds that are over.
   *
   * @param sample What the process of the viewer says of itself, under the name of its service.
   * @returns The points of these seconds, and those that have changed since they were over; the oldest first.
   */
  tick(sample?: BoardSample, service = ""): readonly BoardPoint[] {
    const newest = this.#present - 1;
    const oldest = newest - maxSeconds + 1;
    const gauges = this.#gaugesNow();
    if (sample !== undefined) gauges.addSample(sample, service);
    for (let each = Math.max(this.#closed + 1, oldest); each <= newest; each += 1) {
      this.#at(each).gauges = gauges;
      this.#changed.add(each);
    }
    this.#closed = newest;
    for (const each of this.#seconds.keys()) {
      // Later than the present: the wall clock was set back.
      if (each < oldest || each > newest + 1) this.#seconds.delete(each);
    }
    const changed = [...this.#changed].sort((a, b) => a - b);
    this.#changed.clear();
    return this.#pointsOf(changed);
  }

  /** The points of all seconds that are over. */
  get points(): readonly BoardPoint[] {
    const over = [...this.#seconds.keys()].filter((second) => second <= this.#closed);
    return this.#pointsOf(over.sort((a, b) => a - b));
  }

  get #present(): number {
    return Math.floor(this.#clock.wallNow() / 1000);
  }

  #at(number: number): Second {
    let second = this.#seconds.get(number);
    if (second === undefined) {
      second = new Second();
      this.#seconds.set(number, second);
    }
    return second;
  }

  #pointsOf(numbers: readonly number[]): BoardPoint[] {
    return numbers.flatMap((number) => {
      const second = this.#seconds.get(number);
      return second === undefined ? [] : [second.point((number + 1) * 1000)];
    });
  }

  #gaugesNow(): Gauges {
    const nowMs = this.#clock.now();
    const gauges = new Gauges();
    for (const [series, { reading, atMs }] of this.#gauges) {
      if (nowMs - atMs > gaugeStaysMs) this.#gauges.delete(series);
      else gauges.add(reading);
    }
    return gauges;
  }
}

/** The gauges of one second. A service may have several, by priority or by process: they are added up. */
class Gauges {
  readonly queue = byName<number>();
  readonly limit = byName<number>();
  readonly running = byName<number>();
  readonly breakers = byName<BreakerState>();

  add({ name, service, attributes, value }: GaugeReading): void {
    if (name !== "weir.breaker.state") {
      // Open streams have slots of their own, many of them, beside which those of calls would not be seen.
      if (attributes["weir.pool"] === "streams") return;
      const sums = this[sumOf[name]];
      sums[service] = (sums[service] ?? 0) + value;
      return;
    }
    const names = breakerNames.map((attribute) => attributes[attribute] ?? "");
    const key = [...new Set([service, ...names])].filter((part) => part !== "").join(" ");
    const state = breakerStates[value];
    // Of several processes, the worst state.
    if (state !== undefined && !isWorse(this.breakers[key], state)) this.breakers[key] = state;
  }

  addSample({ queue, limit, running, breakers = {} }: BoardSample, service: string): void {
    if (queue !== undefined) this.queue[service] = queue;
    if (limit !== undefined) this.limit[service] = limit;
    if (running !== undefined) this.running[service] = running;
    for (const [key, state] of Object.entries(breakers)) this.breakers[`${service} ${key}`] = state;
  }
}

const sumOf = {
  "weir.queue.length": "queue",
  "weir.admission.limit": "limit",
  "weir.admission.running": "running",
} as const satisfies Record<Exclude<GaugeName, "weir.breaker.state">, keyof Gauges>;

/** What tells the breakers of a service from one another. The key may be the address. */
const breakerNames = ["weir.guard.name", "server.address", "weir.breaker.key"] as const;

/** By the value of the gauge. */
export const breakerStates: readonly BreakerState[] = ["closed", "half-open", "open"];

function isWorse(state: BreakerState | undefined, than: BreakerState): boolean {
  return state !== undefined && breakerStates.indexOf(state) > breakerStates.indexOf(than);
}

/** What happened in one second. */
class Second {
  gauges = new Gauges();
  readonly #goodput = byName<number>();
  readonly #refusals = byName<number>();
  #failures = 0;
  /** Calls by the logarithm of their duration, in steps of 2 %. */
  readonly #durations = new Map<number, number>();
  #calls = 0;

  count({ status, priority = "", reason, durationMs }: CallRow): void {
    if (status === "OK") add(this.#goodput, priority);
    else if (reason !== undefined) add(this.#refusals, reason);
    else this.#failures += 1;
    const step = Math.round(Math.log(Math.max(durationMs, 0.01)) * stepsOfDuration);
    this.#durations.set(step, (this.#durations.get(step) ?? 0) + 1);
    this.#calls += 1;
  }

  point(atMs: number): BoardPoint {
    const { queue, limit, running, breakers } = this.gauges;
    return {
      atMs,
      goodput: this.#goodput,
      failures: this.#failures,
      refusals: this.#refusals,
      p50Ms: this.#quantile(0.5),
      p99Ms: this.#quantile(0.99),
      queue,
      limit,
      running,
      breakers,
    };
  }

  #quantile(share: number): number | null {
    let left = Math.ceil(share * this.#calls);
    for (const [step, calls] of [...this.#durations].sort(([a], [b]) => a - b)) {
      left -= calls;
      if (left <= 0) return Math.exp(step / stepsOfDuration);
    }
    return null;
  }
}

const stepsOfDuration = 50;

/** An empty record. Names come from other programs: `constructor` or `__proto__` is one as any other. */
function byName<T>(): Record<string, T> {
  const record: Record<string, T> = {};
  Object.setPrototypeOf(record, null);
  return record;
}

function add(counts: Record<string, number>, name: string): void {
  const known = name in counts || Object.keys(counts).length < maxNames;
  const key = known ? name : "other";
  counts[key] = (counts[key] ?? 0) + 1;
}
