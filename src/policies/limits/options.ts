import type { Random } from "../../core/clock.js";
import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  isRecord,
  oneOf,
  readOptions,
  shown,
  unlessOff,
  wholeNumber,
} from "../../core/options.js";
import { ask, callSafely, type ReportError } from "../../core/user-code.js";
import { AimdLimit, type AimdOptions } from "./aimd.js";
import { ElasticLimit, type ElasticOptions, type ElasticSignals } from "./elastic.js";
import { Gradient2Limit, type Gradient2Options } from "./gradient2.js";
import { fixedLimit, type Limit, type RampingLimit } from "./limit.js";
import { VegasLimit, type VegasOptions } from "./vegas.js";

/**
 * How many calls may run at once:
 *
 * - a whole number of at least 1: a fixed limit;
 * - `adaptive`: the algorithm `elastic` with its defaults;
 * - an algorithm with its options;
 * - an object of the user's that implements {@link Limit}.
 */
export type LimitOptions =
  | number
  | "adaptive"
  | ({ readonly algorithm: "aimd" } & AimdOptions)
  | ({ readonly algorithm: "vegas" } & VegasOptions)
  | ({ readonly algorithm: "gradient2" } & Gradient2Options)
  | ({ readonly algorithm: "elastic" } & ElasticOptions)
  | Limit;

/** Makes a new limit. A server has several, such as one for unary calls and one for streams. */
export type MakeLimit = (
  random: Random,
  signals: ElasticSignals,
  report: ReportError,
) => RampingLimit;

const algorithms = ["aimd", "vegas", "gradient2", "elastic"] as const;

/** The default `max`, which is where limits start: one process hardly serves more calls at once. */
const hardCap = 1_000;
const floor = 8;
const usualWindowMs = 500;

const ownLimitRule = "a limit of one's own has current and record()";

/** Checks a limit and fills in the defaults. @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolveLimit(options: LimitOptions, prefix = "limit"): MakeLimit {
  if (typeof options === "number") {
    const limit = wholeNumber(prefix, options, 1);
    return () => fixedLimit(limit);
  }
  if (options === "adaptive") return resolveElastic({}, prefix);
  if (!isRecord(options)) {
    const rule = `a whole number, "adaptive", or an algorithm with its options; ${ownLimitRule}`;
    throw new InvalidOptionError(prefix, rule, options);
  }
  if (isOwnLimit(options)) return ownLimit(options, prefix);
  const read = readOptions(prefix, options);
  const { algorithm, ...rest } = read;
  oneOf(`${prefix}.algorithm`, algorithm, algorithms);
  switch (read.algorithm) {
    case "aimd": {
      const resolved = resolveAimd(rest, prefix);
      return () => new AimdLimit(resolved);
    }
    case "vegas": {
      const resolved = resolveBounds(rest, prefix);
      return (random) => new VegasLimit(resolved, random);
    }
    case "gradient2": {
      const resolved = resolveBounds(rest, prefix);
      return (_random, signals) => new Gradient2Limit(resolved, () => signals.saturated());
    }
    case "elastic":
      return resolveElastic(rest, prefix);
  }
}

/** Whether it is meant as a limit of the user's. `ownLimit` checks that it is complete. */
function isOwnLimit(options: Exclude<LimitOptions, number | string>): options is Limit {
  return "record" in options || ("current" in options && !("algorithm" in options));
}

function ownLimit(limit: Limit, prefix: string): MakeLimit {
  const record: unknown = Reflect.get(limit, "record");
  if (typeof record !== "function") {
    throw new InvalidOptionError(`${prefix}.record`, `a function: ${ownLimitRule}`, record);
  }
  const first = wholeNumber(`${prefix}.current`, limit.current, 1);
  return (_random, _signals, report) => new OwnLimit(limit, first, report);
}

interface Bounds {
  readonly initial?: number;
  readonly min?: number;
  readonly max?: number;
  readonly windowMs?: number;
}

function resolveBounds(
  given: Bounds,
  prefix: string,
  known: readonly string[] = ["initial", "min", "max", "windowMs"],
): Readonly<Required<Bounds>> {
  const options = readOptions(prefix, given, known, ["algorithm"]);
  const { max = hardCap, windowMs = usualWindowMs } = options;
  wholeNumber(`${prefix}.max`, max, 1, 1_000_000);
  const { min = Math.min(floor, max), initial = max } = options;
  wholeNumber(`${prefix}.min`, min, 1, max);
  return Object.freeze({
    max,
    min,
    initial: wholeNumber(`${prefix}.initial`, initial, min, max),
    windowMs: durationMs(`${prefix}.windowMs`, windowMs, 10),
  });
}

function resolveAimd(options: AimdOptions, prefix: string): Required<AimdOptions> {
  const known = ["initial", "min", "max", "backoffRatio", "maxLatencyMs"];
  const { initial, min, max } = resolveBounds(options, prefix, known);
  const { backoffRatio = 0.9, maxLatencyMs = 5_000 } = options;
  return Object.freeze({
    initial,
    min,
    max,
    backoffRatio: finiteNumber(`${prefix}.backoffRatio`, backoffRatio, 0.5, 0.999),
    maxLatencyMs: durationMs(`${prefix}.maxLatencyMs`, maxLatencyMs, 1),
  });
}

function resolveElastic(options: ElasticOptions, prefix: string): MakeLimit {
  // Without `initial`: it starts at `max`.
  const known = ["min", "max", "windowMs", "ceilingMs"];
  const { min, max, windowMs } = resolveBounds(options, prefix, known);
  const checked = { min, max, windowMs };
  const { ceilingMs } = options;
  if (ceilingMs === undefined) return (_random, signals) => new ElasticLimit(checked, signals);
  const fixed = unlessOff(`${prefix}.ceilingMs`, ceilingMs, (ms, option) =>
    durationMs(option, ms, 1),
  );
  return (_random, signals) =>
    new ElasticLimit(checked, {
      saturated: () => signals.saturated(),
      ceilingMs: () => fixed,
      demand: () => signals.demand(),
    });
}

/** A limit of the user's. When it throws or its `current` is no limit, that is reported, and the last good number holds. */
class OwnLimit implements Limit {
  readonly #limit: Limit;
  readonly #report: ReportError;
  readonly #current = () => this.#limit.current;
  #last: number;
  #broken = false;

  constructor(limit: Limit, first: number, report: ReportError) {
    this.#limit = limit;
    this.#report = report;
    this.#last = first;
  }

  get current(): number {
    // It is read for each call, so it is reported only when it begins to fail.
    const report = this.#broken ? silent : this.#report;
    const current = ask(this.#current, readCurrent, undefined, report, "limit.current");
    this.#broken = current === undefined;
    if (current !== undefined) this.#last = current;
    return this.#last;
  }

  record(...sample: Parameters<Limit["record"]>): void {
    callSafely(() => this.#limit.record(...sample), this.#report, "limit.record");
  }
}

const silent: ReportError = () => {};

function readCurrent(answer: unknown): number {
  if (typeof answer === "number" && Number.isSafeInteger(answer) && answer >= 1) return answer;
  throw new RangeError(`a limit is a whole number of at least 1, got ${shown(answer)}`);
}
