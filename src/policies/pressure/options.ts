import {
  durationMs,
  finiteNumber,
  InvalidOptionError,
  readOptions,
  unlessFalse,
} from "../../core/options.js";
import { renamedOptions } from "../../core/renamed-options.js";

/**
 * The range of a signal: the pressure rises from 0 at `from` to 1 at `to`.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/admission.md
 */
export interface PressureRange {
  /** From 0 to 1e9, in the unit of the signal. */
  readonly from: number;
  /** Above `from`, up to 1e9. */
  readonly to: number;
}

/**
 * A signal of the user's: from 0, no pressure, to 1, the highest. It is called for each reading, which is at most once in
 * `sampleMs`.
 */
export type PressureSignal = () => number;

/**
 * Which signals make up the pressure, and their ranges. `false` leaves a signal out.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/admission.md
 */
export interface PressureOptions {
  /**
   * The share of time in which the event loop is busy, from 0 to 1: the best single signal of a Node process.
   * @defaultValue 0.85 to 0.98
   */
  readonly eventLoop?: PressureRange | false;
  /**
   * The longest wait for the event loop, in milliseconds. It counts for shedding and for limits only while `eventLoop` or
   * `cpu` is in its range too. @defaultValue 50 to 250
   */
  readonly loopDelayMs?: PressureRange | false;
  /** The used share of the CPU quota (cgroup), or of all cores where there is none. @defaultValue 0.85 to 0.98 */
  readonly cpu?: PressureRange | false;
  /** The used share of the memory limit: heap or resident set, whichever is higher. @defaultValue 0.85 to 0.95 */
  readonly memory?: PressureRange | false;
  /**
   * Signals of the user's by name, such as the wait for a connection pool. Not with the names of the signals above.
   * @defaultValue none
   */
  readonly signals?: Readonly<Record<string, PressureSignal>>;
  /**
   * How long a reading is used, in milliseconds from 10 to 24 days. The next call after that reads again; no timer runs.
   * @defaultValue 250
   */
  readonly sampleMs?: number;
  /**
   * Reads the process.
   * @defaultValue a reader of Node's numbers; one that reads nothing when the weir was given a clock
   */
  readonly reader?: ProcessReader;
}

/** Names of the signals that are read from the process. */
export const processSignals = ["eventLoop", "loopDelayMs", "cpu", "memory"] as const;

export function isProcessSignal(name: string): boolean {
  return processSignals.some((known) => known === name);
}

const defaults = {
  eventLoop: { from: 0.85, to: 0.98 },
  loopDelayMs: { from: 50, to: 250 },
  cpu: { from: 0.85, to: 0.98 },
  memory: { from: 0.85, to: 0.95 },
} as const satisfies Record<(typeof processSignals)[number], PressureRange>;

/** The checked and frozen options. */
export type ResolvedPressureOptions = Readonly<
  Required<Omit<PressureOptions, "reader">> & Pick<PressureOptions, "reader">
>;

/**
 * Checks the options and fills in the defaults.
 *
 * @param also Names of options that the caller has taken out already.
 * @throws InvalidOptionError naming the option, its rule and what it was given.
 */
export function resolvePressureOptions(
  given: PressureOptions = {},
  prefix = "pressure",
  also: readonly string[] = [],
): ResolvedPressureOptions {
  const known = [...processSignals, "signals", "sampleMs", "reader"];
  const options = readOptions(prefix, given, known, also, renamedOptions("Pressure"));
  const { signals: named = {}, sampleMs = 250, reader } = options;
  const signals = readOptions(`${prefix}.signals`, named);
  for (const [name, signal] of Object.entries(signals)) {
    if (isProcessSignal(name)) {
      const rule = `absent: ${processSignals.join(", ")} are signals already, give yours another name`;
      throw new InvalidOptionError(`${prefix}.signals.${name}`, rule, signal);
    }
    if (typeof signal !== "function") {
      throw new InvalidOptionError(`${prefix}.signals.${name}`, "a function", signal);
    }
  }
  if (reader !== undefined && typeof reader?.read !== "function") {
    throw new InvalidOptionError(`${prefix}.reader`, "a reader: it has no read()", reader);
  }
  const range = (name: (typeof processSignals)[number]) =>
    resolveRange(options[name], defaults[name], `${prefix}.${name}`);
  return Object.freeze({
    eventLoop: range("eventLoop"),
    loopDelayMs: range("loopDelayMs"),
    cpu: range("cpu"),
    memory: range("memory"),
    signals,
    sampleMs: durationMs(`${prefix}.sampleMs`, sampleMs, 10),
    ...(reader === undefined ? {} : { reader }),
  });
}

function resolveRange(
  given: PressureRange | false | undefined,
  usual: PressureRange,
  path: string,
): PressureRange | false {
  if (given === undefined) return Object.freeze({ ...usual });
  const range = unlessFalse(path, given, (option, value) =>
    readOptions(option, value, ["from", "to"]),
  );
  if (range === false) return false;
  const from = finiteNumber(`${path}.from`, range.from, 0, 1e9);
  const to = finiteNumber(`${path}.to`, range.to, 0, 1e9);
  if (to <= from) throw new InvalidOptionError(`${path}.to`, `above ${path}.from, ${from}`, to);
  return Object.freeze({ from, to });
}

/**
 * What a process used since the reading before. Shares are from 0 to 1.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/admission.md
 */
export interface Readings {
  /** The share of time in which the event loop was busy. */
  readonly eventLoop: number;
  /** The longest wait for the event loop, in milliseconds. */
  readonly loopDelayMs: number;
  /** The used share of the CPU that the process may use. */
  readonly cpu: number;
  /** The used share of the heap limit or of the memory limit, whichever is higher. */
  readonly memory: number;
}

/**
 * Reads the process. Policies know Node's numbers only through it.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/admission.md
 */
export interface ProcessReader {
  read(): Readings;
  /** Called when nothing reads any more. */
  close?(): void;
}

/** The reader of an idle process, for virtual time: what the real process does says nothing about it. */
export const idleReader: ProcessReader = {
  read: () => ({ eventLoop: 0, loopDelayMs: 0, cpu: 0, memory: 0 }),
};

/** A pressure, from 0 (there is room) to 1 (there is none). */
export interface Pressure {
  /** Called while calls run, so it has to be cheap. */
  now(): number;
}
