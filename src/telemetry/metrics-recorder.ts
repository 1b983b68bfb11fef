import {
  type Attributes,
  type BatchObservableResult,
  createNoopMeter,
  type Histogram,
  type Meter,
  type MeterProvider,
  type Observable,
} from "@opentelemetry/api";
import type { Decision, PolicyName, Side, Verdict } from "../core/decision.js";
import type { Gauges } from "../core/gauges.js";
import { type Priority, priorities, priorityRank } from "../core/priority.js";
import { ask, callSafely, type ReportError } from "../core/user-code.js";
import { WeakList } from "../core/weak-list.js";
import { GaugeBoard } from "./metrics-gauges.js";
import {
  counters,
  gaugeInstruments,
  gauges,
  type HistogramName,
  histograms,
  measured,
  type ObservableName,
} from "./metrics-instruments.js";
import { Places } from "./metrics-places.js";
import { type Cell, mostSeries, Tally } from "./metrics-tally.js";
import { having, tracerName, tracerVersion } from "./tracing.js";

/** A change of state of a circuit breaker. */
export interface BreakerChange {
  readonly key: string;
  readonly from: string;
  readonly to: string;
}

/** Something that tells its numbers when somebody collects. */
export interface Measured {
  measure(gauges: Gauges): void;
}

/**
 * The instruments of one meter provider, and what was counted for it. All weirs with that provider share them: otherwise
 * the counts of one would replace those of another where their attributes are the same.
 */
export class Recorder {
  readonly places = new Places();
  /** The weirs. What collects does not keep them alive. */
  readonly sources = new WeakList<Measured>();
  readonly #report: ReportError;
  readonly #histograms = new Map<string, Histogram>();
  readonly #observables = new Map<string, Observable>();
  readonly #board = new GaugeBoard();
  readonly #refusals = new Tally();
  readonly #decisions = new Tally();
  readonly #transitions = new Tally();
  readonly #tallies: readonly (readonly [ObservableName, Tally])[] = [
    ["calls", this.places.calls],
    ["attempts", this.places.attempts],
    ["degraded", this.places.degraded],
    ["grpcAttemptStarted", this.places.grpcAttemptStarted],
    ["grpcServerStarted", this.places.grpcServerStarted],
    ["refusals", this.#refusals],
    ["decisions", this.#decisions],
    ["breakerTransitions", this.#transitions],
  ];
  readonly #refused = new DecisionSeries(false, (attributes) => this.#refusals.cell(attributes));
  readonly #decided = new DecisionSeries(true, (attributes) => this.#decisions.cell(attributes));
  readonly #queued = new DecisionSeries(false, (attributes) => attributes);
  readonly #transitionCells = new Map<string, Cell>();

  private constructor(meter: Meter, report: ReportError) {
    this.#report = report;
    for (const [name, { buckets, ...options }] of Object.entries(histograms)) {
      const advice = { explicitBucketBoundaries: [...buckets] };
      this.#histograms.set(name, meter.createHistogram(options.name, { ...options, advice }));
    }
    for (const [name, options] of Object.entries(counters)) {
      this.#observables.set(name, meter.createObservableCounter(options.name, options));
    }
    for (const [name, options] of Object.entries(gauges)) {
      this.#observables.set(name, meter.createObservableGauge(options.name, options));
    }
    meter.addBatchObservableCallback(
      (result) => this.#collect(result),
      [...this.#observables.values()],
    );
  }

  /** The recorder of a provider; `undefined` where it measures nothing or fails. */
  static of(provider: MeterProvider, report: ReportError): Recorder | undefined {
    const known = recorders.get(provider);
    if (known !== undefined) return known;
    const meter = () => provider.getMeter(tracerName, tracerVersion);
    const made = ask(
      () => {
        const its = having<Meter>(meter(), "createHistogram");
        return its === createNoopMeter() ? undefined : new Recorder(its, report);
      },
      readRecorder,
      undefined,
      report,
      "meterProvider",
    );
    if (made !== undefined) recorders.set(provider, made);
    return made;
  }

  record(name: HistogramName, value: number, attributes: Attributes): void {
    const record = () => this.#histograms.get(name)?.record(value, attributes);
    callSafely(record, this.#report, "meterProvider");
  }

  /** Counts a decision. One about a wait in a queue is measured instead. */
  decided(decision: Decision, side: Side, priority: Priority | undefined): void {
    const { verdict, waitMs } = decision;
    if (verdict === "reject") {
      this.#refused.of(decision, side, priority).value += 1;
    } else if (verdict === "queue" && waitMs !== undefined) {
      this.record("queueWait", waitMs / 1_000, this.#queued.of(decision, side, priority));
    } else {
      this.#decided.of(decision, side, undefined).value += 1;
    }
  }

  breakerChanged({ key, from, to }: BreakerChange): void {
    const id = `${from} ${to} ${key}`;
    let cell = this.#transitionCells.get(id);
    if (cell === undefined) {
      cell = this.#transitions.cell({
        [measured.breakerKey]: key,
        [measured.breakerFrom]: from,
        [measured.breakerTo]: to,
      });
      // Keys come and go. Of those that are counted together none is kept.
      if (this.#transitionCells.size < mostSeries) this.#transitionCells.set(id, cell);
    }
    cell.value += 1;
  }

  #collect(result: BatchObservableResult): void {
    const observe = (name: ObservableName, value: number, attributes: Attributes) => {
      const observable = this.#observables.get(name);
      if (observable !== undefined) result.observe(observable, value, attributes);
    };
    for (const [name, { cells }] of this.#tallies) {
      for (const { value, attributes } of cells) observe(name, value, attributes);
    }
    this.#board.collect(
      () => {
        for (const source of this.sources) {
          callSafely(() => source.measure(this.#board), this.#report, "metrics");
        }
      },
      (gauge, value, attributes) => observe(gaugeInstruments[gauge].instrument, value, attributes),
    );
  }
}

const recorders = new WeakMap<MeterProvider, Recorder>();

function readRecorder(answer: unknown): Recorder | undefined {
  return answer instanceof Recorder ? answer : undefined;
}

/** What is kept for each kind of decision. */
class DecisionSeries<T> {
  readonly #found = new Map<PolicyName, Map<Verdict, Map<string, T[]>>>();
  readonly #byVerdict: boolean;
  readonly #make: (attributes: Attributes) => T;

  /** @param byVerdict Verdicts are told apart. Not where all decisions have the same. */
  constructor(byVerdict: boolean, make: (attributes: Attributes) => T) {
    this.#byVerdict = byVerdict;
    this.#make = make;
  }

  /** @param priority `undefined` where it is not told apart. */
  of(decision: Decision, side: Side, priority: Priority | undefined): T {
    const { policy, verdict, reason = "", enforced } = decision;
    const rank = priority === undefined ? priorities.length : priorityRank[priority];
    const index = (rank * sides.length + sides.indexOf(side)) * 2 + (enforced ? 1 : 0);
    const list = this.#listOf(policy, verdict, reason);
    const present = list[index];
    if (present !== undefined) return present;
    const attributes: Attributes = {
      [measured.side]: side,
      [measured.policy]: policy,
      [measured.enforced]: enforced,
    };
    if (this.#byVerdict) attributes[measured.verdict] = verdict;
    if (reason !== "") attributes[measured.reason] = reason;
    if (priority !== undefined) attributes[measured.priority] = priority;
    const made = this.#make(attributes);
    list[index] = made;
    return made;
  }

  #listOf(policy: PolicyName, verdict: Verdict, reason: string): T[] {
    const verdicts = found(this.#found, policy, () => new Map<Verdict, Map<string, T[]>>());
    const reasons = found(verdicts, verdict, () => new Map<string, T[]>());
    return found(reasons, reason, () => []);
  }
}

const sides = ["client", "server", "guard", "process"] as const satisfies readonly Side[];

function found<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const present = map.get(key);
  if (present !== undefined) return present;
  const made = make();
  map.set(key, made);
  return made;
}
