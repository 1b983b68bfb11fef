import { degradationName } from "./fallback-options.js";
import { finiteNumber, InvalidOptionError, readOptions } from "./options.js";

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
