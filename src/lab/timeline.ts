import { type Priority, priorities } from "../core/priority.js";
import { Histogram } from "./histogram.js";

/** What a server tells of itself at one moment. */
export interface ServerReading {
  /** Calls that run: they have come, or have got a slot where there are slots, and have not ended. */
  readonly running: number;
  /** Calls that wait for a slot. */
  readonly queued: number;
  /** How many calls may run; `undefined` where nothing limits them. */
  readonly limit: number | undefined;
}

/** How many circuit breakers a client has in each state. */
export interface BreakerReading {
  readonly closed: number;
  readonly halfOpen: number;
  readonly open: number;
}

/** What became of a call: it was answered in time, refused by a policy, or failed otherwise. */
export type OutcomeKind = "good" | "refused" | "failed";

/** How many calls of each slice ended in one way. */
export interface OutcomeSeries {
  readonly kind: OutcomeKind;
  /** The reason of a refusal, or the name of a status; `OK` for good calls. */
  readonly why: string;
  readonly counts: readonly number[];
}

/** A run over its time: calls by the slice of time in which they were due, and readings in equal steps. */
export interface Timeline {
  readonly sliceMs: number;
  readonly outcomes: readonly OutcomeSeries[];
  readonly priorities: Readonly<
    Record<Priority, { readonly sent: readonly number[]; readonly good: readonly number[] }>
  >;
  /** The time until a good answer, in milliseconds; `undefined` for a slice without good calls. */
  readonly p50Ms: readonly (number | undefined)[];
  readonly p99Ms: readonly (number | undefined)[];
  /** Time between two readings, the first of which is at 0. */
  readonly everyMs: number;
  readonly servers: readonly ServerReading[];
  readonly breakers: readonly BreakerReading[];
  /** How many servers and clients are read. In a larger fleet, these are some of all. */
  readonly read: { readonly servers: number; readonly clients: number };
}

/** A longer run has longer steps, so that a timeline takes the same memory. */
const mostReadings = 400;
const shortestStepMs = 50;
const stepsInSlice = 4;
/** A fleet is read by so many of its servers, and so many of its clients. */
const mostRead = 200;

/** Records a run over its time. */
export class TimelineRecorder {
  readonly everyMs: number;
  readonly #sliceMs: number;
  readonly #slices: number;
  readonly #outcomes = new Map<string, { kind: OutcomeKind; why: string; counts: Uint32Array }>();
  readonly #sent: Readonly<Record<Priority, Uint32Array>>;
  readonly #good: Readonly<Record<Priority, Uint32Array>>;
  readonly #latencies: readonly Histogram[];
  readonly #serverReaders = new Sampled<ServerReading>();
  readonly #clientReaders = new Sampled<BreakerReading>();
  readonly #servers: ServerReading[] = [];
  readonly #breakers: BreakerReading[] = [];

  /** @param totalMs How long the run takes, in milliseconds. */
  constructor(totalMs: number) {
    const steps = Math.ceil(totalMs / mostReadings / shortestStepMs);
    this.everyMs = Math.max(1, steps) * shortestStepMs;
    this.#sliceMs = stepsInSlice * this.everyMs;
    this.#slices = Math.ceil(totalMs / this.#sliceMs);
    this.#sent = this.#byPriority();
    this.#good = this.#byPriority();
    this.#latencies = Array.from({ length: this.#slices }, () => new Histogram());
  }

  sent(dueMs: number, priority: Priority): void {
    add(this.#sent[priority], this.#sliceAt(dueMs));
  }

  ended(dueMs: number, tookMs: number, priority: Priority, kind: OutcomeKind, why: string): void {
    const slice = this.#sliceAt(dueMs);
    const key = `${kind} ${why}`;
    let outcome = this.#outcomes.get(key);
    if (outcome === undefined) {
      outcome = { kind, why, counts: new Uint32Array(this.#slices) };
      this.#outcomes.set(key, outcome);
    }
    add(outcome.counts, slice);
    if (kind !== "good") return;
    add(this.#good[priority], slice);
    this.#latencies[slice]?.add(tookMs);
  }

  /** Has a server read from now on. */
  readServer(read: () => ServerReading): void {
    this.#serverReaders.add(read);
  }

  /** Has the breakers of a client read from now on. */
  readClient(read: () => BreakerReading): void {
    this.#clientReaders.add(read);
  }

  /** Reads all that is read, once. */
  takeReadings(): void {
    let running = 0;
    let queued = 0;
    let limit: number | undefined;
    for (const read of this.#serverReaders.chosen) {
      const one = read();
      running += one.running;
      queued += one.queued;
      if (one.limit !== undefined) limit = (limit ?? 0) + one.limit;
    }
    this.#servers.push({ running, queued, limit });
    const breakers = { closed: 0, halfOpen: 0, open: 0 };
    for (const read of this.#clientReaders.chosen) {
      const one = read();
      breakers.closed += one.closed;
      breakers.halfOpen += one.halfOpen;
      breakers.open += one.open;
    }
    this.#breakers.push(breakers);
  }

  timeline(): Timeline {
    const series = (priority: Priority) => ({
      sent: [...this.#sent[priority]],
      good: [...this.#good[priority]],
    });
    return {
      sliceMs: this.#sliceMs,
      outcomes: [...this.#outcomes.values()]
        .map(({ kind, why, counts }) => ({ kind, why, counts: [...counts] }))
        .toSorted((a, b) => order(a) - order(b) || (a.why < b.why ? -1 : 1)),
      priorities: {
        critical: series("critical"),
        high: series("high"),
        normal: series("normal"),
        low: series("low"),
      },
      p50Ms: this.#latencies.map((latency) => latency.quantile(0.5)),
      p99Ms: this.#latencies.map((latency) => latency.quantile(0.99)),
      everyMs: this.everyMs,
      servers: this.#servers,
      breakers: this.#breakers,
      read: {
        servers: this.#serverReaders.chosen.length,
        clients: this.#clientReaders.chosen.length,
      },
    };
  }

  #sliceAt(ms: number): number {
    return Math.floor(ms / this.#sliceMs);
  }

  #byPriority(): Readonly<Record<Priority, Uint32Array>> {
    const counts = () => new Uint32Array(this.#slices);
    return { critical: counts(), high: counts(), normal: counts(), low: counts() };
  }
}

const kinds: readonly OutcomeKind[] = ["good", "refused", "failed"];

function order({ kind }: OutcomeSeries): number {
  return kinds.indexOf(kind);
}

function add(counts: Uint32Array, slice: number): void {
  counts[slice] = (counts[slice] ?? 0) + 1;
}

/** The share of the calls of a priority that was good, slice by slice; `undefined` for a slice without calls. */
export function goodShares(
  timeline: Timeline,
  priority: Priority,
): readonly (number | undefined)[] {
  const { sent, good } = timeline.priorities[priority];
  return sent.map((count, slice) => (count === 0 ? undefined : (good[slice] ?? 0) / count));
}

/** How many calls were due, slice by slice. */
export function sentIn({ priorities: all }: Timeline): readonly number[] {
  return all.critical.sent.map((_, slice) =>
    priorities.reduce((sum, priority) => sum + (all[priority].sent[slice] ?? 0), 0),
  );
}

/** Some of many readers, evenly spread: every second one is dropped when there are too many. */
class Sampled<R> {
  #stride = 1;
  #seen = 0;
  chosen: (() => R)[] = [];

  add(read: () => R): void {
    if (this.#seen % this.#stride === 0) this.chosen.push(read);
    this.#seen += 1;
    if (this.chosen.length <= mostRead) return;
    this.chosen = this.chosen.filter((_, index) => index % 2 === 0);
    this.#stride *= 2;
  }
}
