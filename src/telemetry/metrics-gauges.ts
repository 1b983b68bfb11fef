import type { Attributes } from "@opentelemetry/api";
import type { GaugeLabels, GaugeName, Gauges } from "../core/gauges.js";
import { serverAttributes } from "./attributes.js";
import { gaugeInstruments, measured } from "./metrics-instruments.js";

/** One number of one instrument. */
interface Series {
  value: number;
  readonly attributes: Attributes;
}

type Board = Map<GaugeName, Map<string, Series>>;

/** How many series of one instrument are told at most. */
const mostSeries = 500;

/** The numbers of policies at one moment, joined where they have the same labels. */
export class GaugeBoard implements Gauges {
  #now: Board = new Map();

  note(gauge: GaugeName, value: number, labels: GaugeLabels): void {
    const attributes = attributesOf(gauge, labels);
    const key = JSON.stringify(attributes);
    const all = this.#now.get(gauge) ?? new Map<string, Series>();
    this.#now.set(gauge, all);
    const series = all.get(key);
    if (series === undefined) all.set(key, { value, attributes });
    else series.value = join(gauge, series.value, value);
  }

  /**
   * Reads all numbers, and tells them. Of too many series of one instrument those are told that say most: the highest, of
   * budgets the lowest. The SDK repeats the last number of a series for ever, so the end of one is told as 0, where 0 says
   * that there is nothing.
   */
  collect(
    read: () => void,
    tell: (gauge: GaugeName, value: number, attributes: Attributes) => void,
  ): void {
    const before = this.#now;
    this.#now = new Map();
    read();
    for (const [gauge, all] of this.#now) {
      const told = all.size > mostSeries ? mostTelling(gauge, all) : all;
      this.#now.set(gauge, told);
      for (const { value, attributes } of told.values()) tell(gauge, value, attributes);
    }
    for (const [gauge, all] of before) {
      if (gaugeInstruments[gauge].gone !== 0) continue;
      const told = this.#now.get(gauge);
      for (const [key, { attributes }] of all) {
        if (told?.has(key) !== true) tell(gauge, 0, attributes);
      }
    }
  }
}

function join(gauge: GaugeName, one: number, other: number): number {
  const { join: how } = gaugeInstruments[gauge];
  if (how === "sum") return one + other;
  return how === "highest" ? Math.max(one, other) : Math.min(one, other);
}

function mostTelling(gauge: GaugeName, all: ReadonlyMap<string, Series>): Map<string, Series> {
  const sign = gaugeInstruments[gauge].join === "lowest" ? 1 : -1;
  const sorted = [...all].sort(([, one], [, other]) => sign * (one.value - other.value));
  return new Map(sorted.slice(0, mostSeries));
}

function attributesOf(gauge: GaugeName, labels: GaugeLabels): Attributes {
  const { policy, side, priority, key, target, guard, flag, pool, signal, budget, outcome } =
    labels;
  const attributes: Attributes = target === undefined ? {} : { ...serverAttributes(target) };
  if (policy !== undefined) attributes[measured.policy] = policy;
  if (side !== undefined) attributes[measured.side] = side;
  if (priority !== undefined) attributes[measured.priority] = priority;
  if (key !== undefined) {
    attributes[gauge === "breaker" ? measured.breakerKey : measured.key] = key;
  }
  if (guard !== undefined) attributes[measured.guard] = guard;
  if (flag !== undefined) attributes[measured.flag] = flag;
  if (pool !== undefined) attributes[measured.pool] = pool;
  if (signal !== undefined) attributes[measured.signal] = signal;
  if (budget !== undefined) attributes[measured.budget] = budget;
  if (outcome !== undefined) attributes[measured.outcome] = outcome;
  return attributes;
}
