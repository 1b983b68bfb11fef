import {
  durationMs,
  InvalidOptionError,
  isRecord,
  oneOf,
  readOptions,
  shown,
  unlessOff,
  wholeNumber,
} from "../../core/options.js";
import { ask, callSafely, type ReportError } from "../../core/user-code.js";
import { ElasticLimit, type ElasticOptions, type ElasticSignals } from "./elastic.js";
import { fixedLimit, type Limit, type RampingLimit } from "./limit.js";

/**
 * How many calls may run at once:
 *
 * - a whole number of at least 1: a fixed limit;
 * - `adaptive`: the algorithm `elastic` with its defaults;
 * - the algorithm `elastic` with its options;
 * - an object of the user's that implements {@link Limit}.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/adaptive-limits.md
 */
export type LimitOptions =
  | number
  | "adaptive"
  | ({ readonly algorithm: "elastic" } & ElasticOptions)
  | Limit;

/** Makes a new limit. A server has several, such as one for unary calls and one for streams. */
export type MakeLimit = (signals: ElasticSignals, report: ReportError) => RampingLimit;

/** Algorithms that are examples of a limit of one's own. */
const examples = ["aimd", "vegas", "gradient2"];

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
  refuseExample(prefix, options);
  if (!isRecord(options)) {
    const rule = `a whole number, "adaptive", or an algorithm with its options; ${ownLimitRule}`;
    throw new InvalidOptionError(prefix, rule, options);
  }
  if (isOwnLimit(options)) return ownLimit(options, prefix);
  const { algorithm, ...rest } = readOptions(prefix, options);
  refuseExample(`${prefix}.algorithm`, algorithm);
  oneOf(`${prefix}.algorithm`, algorithm, ["elastic"]);
  return resolveElastic(rest, prefix);
}

function refuseExample(option: string, algorithm: unknown): void {
  const name = examples.find((each) => each === algorithm);
  if (name === undefined) return;
  const rule = `"elastic", or a limit of one's own: ${name} is an example of one, in examples/limits/${name}.ts`;
  throw new InvalidOptionError(option, rule, algorithm);
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
  return (_signals, report) => new OwnLimit(limit, first, report);
}

function resolveElastic(given: ElasticOptions, prefix: string): MakeLimit {
  const known = ["min", "max", "windowMs", "ceilingMs"];
  const options = readOptions(prefix, given, known, ["algorithm"]);
  const { max = hardCap, windowMs = usualWindowMs, ceilingMs } = options;
  wholeNumber(`${prefix}.max`, max, 1, 1_000_000);
  const { min = Math.min(floor, max) } = options;
  const checked = Object.freeze({
    max,
    min: wholeNumber(`${prefix}.min`, min, 1, max),
    windowMs: durationMs(`${prefix}.windowMs`, windowMs, 10),
  });
  if (ceilingMs === undefined) return (signals) => new ElasticLimit(checked, signals);
  const fixed = unlessOff(`${prefix}.ceilingMs`, ceilingMs, (ms, option) =>
    durationMs(option, ms, 1),
  );
  return (signals) =>
    new ElasticLimit(checked, { ceilingMs: () => fixed, demand: () => signals.demand() });
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
