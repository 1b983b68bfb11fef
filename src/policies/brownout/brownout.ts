import { finiteNumber, InvalidOptionError, readOptions } from "../../core/options.js";
import type { Priority } from "../../core/priority.js";
import { ask, type ReportError, share } from "../../core/user-code.js";
import { degradationName } from "../fallback/chain.js";
import type { Pressure } from "../pressure/options.js";

/**
 * When a piece of optional work is skipped.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/brownout.md
 */
export interface OptionalWork {
  /** Up to this pressure no call skips it. From 0 to 1. @defaultValue 0.5 */
  readonly skipAbovePressure?: number;
  /**
   * From this pressure on all calls skip it. From `skipAbovePressure` to 1; between the two, a growing share of the calls
   * skips it, low priorities first. @defaultValue `skipAbovePressure` + 0.2, but no more than 1
   */
  readonly skipAllAbovePressure?: number;
  /** Whether a call that skipped it is marked as degraded for its caller. @defaultValue true */
  readonly mark?: boolean;
}

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/brownout.md */
export interface BrownoutOptions {
  /** Optional work by the name that handlers ask for: up to 64 letters, digits, `.`, `_` and `-`. */
  readonly optional: Readonly<Record<string, OptionalWork>>;
}

/** The checked and frozen options of one piece of work. */
export type ResolvedOptionalWork = Readonly<Required<OptionalWork>>;

/**
 * Checks the options and fills in the defaults.
 *
 * @param also Names of options that the caller has taken out already, for the error about an unknown one.
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
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

/** The decision about one piece of work in one call. */
export interface SkipVerdict {
  readonly skip: boolean;
  readonly by: "flag" | "pressure";
  /** Whether a call that skips it is marked as degraded for its caller. */
  readonly mark: boolean;
  /** For people: the numbers behind it. */
  readonly detail: string;
}

/**
 * Numbers of one piece of work: calls that asked for it, and those that were to skip it. All only grow.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/brownout.md
 */
export interface OptionalWorkSnapshot {
  readonly asked: number;
  readonly skippedByFlag: number;
  readonly skippedByPressure: number;
}

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/brownout.md */
export interface BrownoutSnapshot {
  /** The pressure now, from 0 to 1. */
  readonly pressure: number;
  readonly optional: Readonly<Record<string, OptionalWorkSnapshot>>;
}

type Counts = { -readonly [K in keyof OptionalWorkSnapshot]: number };

/** Decides which optional work calls skip, so that a server under pressure does less for each call before it refuses any. */
export class Brownout {
  readonly #works = new Map<
    string,
    { readonly options: ResolvedOptionalWork; readonly counts: Counts }
  >();
  readonly #pressure: Pressure;
  readonly #report: ReportError;
  #lastPressure = 0;
  #reading = false;

  constructor(
    works: ReadonlyMap<string, ResolvedOptionalWork>,
    pressure: Pressure,
    report: ReportError,
  ) {
    this.#pressure = pressure;
    this.#report = report;
    for (const [name, options] of works) {
      const counts = { asked: 0, skippedByFlag: 0, skippedByPressure: 0 };
      this.#works.set(name, { options, counts });
    }
  }

  /** Takes other work, or other options of it. What was counted stays for names that stay. */
  reconfigure(fresh: Brownout): void {
    const before = new Map(this.#works);
    this.#works.clear();
    for (const [name, { options, counts }] of fresh.#works) {
      this.#works.set(name, { options, counts: before.get(name)?.counts ?? counts });
    }
  }

  knows(name: string): boolean {
    return this.#works.has(name);
  }

  /** Whether a call that skips this work is marked as degraded. Work that is not known here is. */
  marks(name: string): boolean {
    return this.#works.get(name)?.options.mark ?? true;
  }

  /**
   * Decides about a piece of work for one call. `undefined` for an unknown name.
   *
   * @param flag `false` switches it off, `true` keeps it on at any pressure, `undefined` leaves it to the pressure.
   * @param chance The random number of the call, from 0 to below 1. It is the same for all its work, so that a call skips
   *   first what is skipped at a lower pressure.
   */
  judge(
    name: string,
    priority: Priority,
    flag: boolean | undefined,
    chance: () => number,
  ): SkipVerdict | undefined {
    const work = this.#works.get(name);
    if (work === undefined) return undefined;
    const { options, counts } = work;
    const { mark } = options;
    counts.asked += 1;
    if (flag !== undefined) {
      if (!flag) counts.skippedByFlag += 1;
      return { skip: !flag, by: "flag", mark, detail: `${name}: ${flag ? "on" : "off"}` };
    }
    const pressure = this.#readPressure();
    const share = skipShare(options, priority, pressure);
    const skip = share > 0 && chance() < share;
    if (skip) counts.skippedByPressure += 1;
    const percent = Math.round(100 * share);
    const detail = `${name}: pressure ${pressure.toFixed(2)}, ${percent} % of ${priority} calls skip it`;
    return { skip, by: "pressure", mark, detail };
  }

  snapshot(): BrownoutSnapshot {
    const optional: Record<string, OptionalWorkSnapshot> = {};
    for (const [name, { counts }] of this.#works) optional[name] = { ...counts };
    return { pressure: this.#readPressure(), optional };
  }

  /** The pressure, from 0 to 1. A source that fails counts as 0: it must not switch work off. */
  #readPressure(): number {
    // A source may read the pressure itself, for example through a snapshot. Then it gets the last one.
    if (this.#reading) return this.#lastPressure;
    this.#reading = true;
    const source = () => this.#pressure.now();
    this.#lastPressure = ask(source, share, 0, this.#report, "brownout.pressure");
    this.#reading = false;
    return this.#lastPressure;
  }
}

/**
 * For each priority but `critical`: in which part of the range from `skipAbovePressure` to `skipAllAbovePressure` its share of
 * skipping calls rises from 0 to 1. The parts overlap, so that the share rises over half of the range where all calls have
 * one priority.
 */
const stretches = {
  low: { from: 0, to: 0.5 },
  normal: { from: 0.25, to: 0.75 },
  high: { from: 0.5, to: 1 },
} as const satisfies Partial<Record<Priority, { readonly from: number; readonly to: number }>>;

/**
 * The share of the calls of a priority that skip a piece of work at a pressure. It is the dimmer of Klein et al.,
 * "Brownout: building more robust cloud applications" (ICSE 2014), set by the pressure.
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
  // None of the critical calls before the end, then all of them.
  if (priority === "critical") return 0;
  const place = (pressure - skipAbovePressure) / (skipAllAbovePressure - skipAbovePressure);
  const { from, to } = stretches[priority];
  return Math.min(1, Math.max(0, (place - from) / (to - from)));
}
