import { finiteNumber, InvalidOptionError, readOptions } from "../../core/options.js";
import type { Priority } from "../../core/priority.js";
import { ask, type ReportError, share } from "../../core/user-code.js";
import { degradationName } from "../fallback/chain.js";
import type { Pressure } from "../pressure/options.js";

/**
 * Which part of the way from "nobody skips" to "everybody skips" a priority takes to get there. They overlap, so
 * that where all calls are of one priority the dimmer still has half of the way to work in.
 */
const stretches = {
  low: { from: 0, to: 0.5 },
  normal: { from: 0.25, to: 0.75 },
  high: { from: 0.5, to: 1 },
  // At the very end, and all of them.
  critical: { from: 1, to: 1 },
} as const satisfies Record<Priority, { readonly from: number; readonly to: number }>;

/**
 * The share of the calls of a priority that skip a piece of work under a pressure: the dimmer of Klein et al.,
 * "Brownout: building more robust cloud applications" (ICSE 2014), read from the pressure.
 *
 * @internal Exported for its tests.
 */
export function skipShare(
  { skipAbovePressure, skipAllAbovePressure }: ResolvedOptionalWork,
  priority: Priority,
  pressure: number,
): number {
  if (!(pressure > skipAbovePressure)) return 0;
  if (pressure >= skipAllAbovePressure) return 1;
  const way = (pressure - skipAbovePressure) / (skipAllAbovePressure - skipAbovePressure);
  const { from, to } = stretches[priority];
  return way <= from ? 0 : way >= to ? 1 : (way - from) / (to - from);
}

/** What is said of one piece of work in one call. */
export interface SkipVerdict {
  readonly skip: boolean;
  readonly by: "flag" | "pressure";
  /** Whether a call that skips it says so to its caller. */
  readonly mark: boolean;
  /** For a person. */
  readonly detail: string;
}

/** Numbers of one piece of work: calls that asked, and those of them that were to skip it. They only grow. */
export interface OptionalWorkSnapshot {
  readonly asked: number;
  readonly skippedByFlag: number;
  readonly skippedByPressure: number;
}

export interface BrownoutSnapshot {
  /** The pressure now, from 0 to 1. */
  readonly pressure: number;
  readonly optional: Readonly<Record<string, OptionalWorkSnapshot>>;
}

interface Counts {
  asked: number;
  skippedByFlag: number;
  skippedByPressure: number;
}

/** Decides what a handler can do without, so that a server under pressure does less for all before it refuses some. */
export class Brownout {
  readonly #works: ReadonlyMap<string, ResolvedOptionalWork>;
  readonly #pressure: Pressure;
  readonly #report: ReportError;
  readonly #counts = new Map<string, Counts>();
  #lastPressure = 0;
  #reading = false;

  constructor(
    works: ReadonlyMap<string, ResolvedOptionalWork>,
    pressure: Pressure,
    report: ReportError,
  ) {
    this.#works = works;
    this.#pressure = pressure;
    this.#report = report;
    for (const name of works.keys()) {
      this.#counts.set(name, { asked: 0, skippedByFlag: 0, skippedByPressure: 0 });
    }
  }

  knows(name: string): boolean {
    return this.#works.has(name);
  }

  /**
   * Judges a piece of work for one call. `undefined` for a name that is not known.
   *
   * @param flag What a flag says of it: `false` switches it off, `true` keeps it on whatever the pressure, and
   *   `undefined` leaves it to the pressure.
   * @param chance One draw for the whole call, in [0, 1): what skips at some pressure has skipped all that skips
   *   sooner.
   */
  judge(
    name: string,
    priority: Priority,
    flag: boolean | undefined,
    chance: () => number,
  ): SkipVerdict | undefined {
    const work = this.#works.get(name);
    const counts = this.#counts.get(name);
    if (work === undefined || counts === undefined) return undefined;
    const { mark } = work;
    counts.asked += 1;
    if (flag !== undefined) {
      if (!flag) counts.skippedByFlag += 1;
      return { skip: !flag, by: "flag", mark, detail: `${name}: ${flag ? "on" : "off"}` };
    }
    const pressure = this.#readPressure();
    const share = skipShare(work, priority, pressure);
    const skip = share > 0 && chance() < share;
    if (skip) counts.skippedByPressure += 1;
    const percent = Math.round(100 * share);
    const detail = `${name}: pressure ${pressure.toFixed(2)}, ${percent} % of ${priority} calls skip it`;
    return { skip, by: "pressure", mark, detail };
  }

  snapshot(): BrownoutSnapshot {
    const optional: Record<string, OptionalWorkSnapshot> = {};
    for (const [name, counts] of this.#counts) optional[name] = { ...counts };
    return { pressure: this.#readPressure(), optional };
  }

  /** A source that is broken is no pressure: it must not take anything away. */
  #readPressure(): number {
    // A source that asks for the pressure itself, such as by a snapshot, has it as it was read last.
    if (this.#reading) return this.#lastPressure;
    this.#reading = true;
    const source = () => this.#pressure.now();
    this.#lastPressure = ask(source, share, 0, this.#report, "brownout.pressure");
    this.#reading = false;
    return this.#lastPressure;
  }
}

/** When a piece of work that a handler can do without is left out. */
export interface OptionalWork {
  /** Up to this pressure nobody skips it. 0 to 1. @defaultValue 0.5 */
  readonly skipAbovePressure?: number;
  /**
   * From this pressure everybody skips it, from `skipAbovePressure` to 1. Between the two a growing share of the
   * calls does, low ones first. @defaultValue `skipAbovePressure` + 0.2, 1 at most
   */
  readonly skipAllAbovePressure?: number;
  /** Whether a call that has skipped it says so to its caller, as one that is degraded. @defaultValue true */
  readonly mark?: boolean;
}

export interface BrownoutOptions {
  /** The pieces, by the names that handlers ask for: letters, digits, `.`, `_` and `-`, at most 64. */
  readonly optional: Readonly<Record<string, OptionalWork>>;
}

/** Checked, complete and frozen. */
export type ResolvedOptionalWork = Readonly<Required<OptionalWork>>;

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveBrownoutOptions(
  given: BrownoutOptions,
  prefix = "brownout",
  also: readonly string[] = [],
): ReadonlyMap<string, ResolvedOptionalWork> {
  const options = readOptions(prefix, given, ["optional"], also);
  const optional = readOptions(`${prefix}.optional`, options.optional);
  const works = new Map<string, ResolvedOptionalWork>();
  for (const [name, work] of Object.entries(optional)) {
    const path = `${prefix}.optional.${name}`;
    if (!degradationName.test(name)) {
      const rule = "named with letters, digits, '.', '_' and '-', at most 64";
      throw new InvalidOptionError(`${prefix}.optional`, rule, name);
    }
    works.set(name, resolveWork(work, path));
  }
  if (works.size === 0) {
    throw new InvalidOptionError(`${prefix}.optional`, "the names of some optional work", optional);
  }
  return works;
}

function resolveWork(given: OptionalWork, path: string): ResolvedOptionalWork {
  const work = readOptions(path, given, ["skipAbovePressure", "skipAllAbovePressure", "mark"]);
  const { skipAbovePressure = 0.5 } = work;
  const from = finiteNumber(`${path}.skipAbovePressure`, skipAbovePressure, 0, 1);
  const { skipAllAbovePressure = Math.min(1, from + 0.2), mark = true } = work;
  if (typeof mark !== "boolean") {
    throw new InvalidOptionError(`${path}.mark`, "true or false", mark);
  }
  return Object.freeze({
    skipAbovePressure: from,
    skipAllAbovePressure: finiteNumber(
      `${path}.skipAllAbovePressure`,
      skipAllAbovePressure,
      from,
      1,
    ),
    mark,
  });
}
