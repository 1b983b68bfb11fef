import { durationMs, finiteNumber, InvalidOptionError, readOptions } from "../../core/options.js";

/** From where a signal counts, and where it is at its full pressure of 1. */
export interface PressureRange {
  readonly from: number;
  /** Above `from`. */
  readonly to: number;
}

/** A signal of one's own, from 0 (no pressure) to 1 (as much as there can be). It runs some times a second. */
export type PressureSignal = () => number;

/** Which signals make up the pressure, and what is much. `false` leaves a signal out. */
export interface PressureOptions {
  /** Busy share of the event loop: the best single signal of a Node process. @defaultValue 0.85 to 0.98 */
  readonly eventLoop?: PressureRange | false;
  /**
   * Longest delay of the event loop, in milliseconds. It sheds, and tells limits that the process is saturated, only while
   * `eventLoop` or `cpu` stands in its range as well. @defaultValue 50 to 250
   */
  readonly loopDelayMs?: PressureRange | false;
  /** Share of the CPU quota (cgroup), or of all cores where there is none. @defaultValue 0.85 to 0.98 */
  readonly cpu?: PressureRange | false;
  /** Share of the memory limit, of heap or rss. @defaultValue 0.85 to 0.95 */
  readonly memory?: PressureRange | false;
  /**
   * Signals of one's own by name, such as how long a connection pool lets its users wait. The names of the signals
   * above are taken. @defaultValue none
   */
  readonly signals?: Readonly<Record<string, PressureSignal>>;
  /** How long a reading holds. It is renewed by the next call after that; no timer runs. 10 ms to 24 days. @defaultValue 250 */
  readonly sampleMs?: number;
  /**
   * What reads the process.
   * @defaultValue Node's own numbers; nothing where the weir has a clock of its own
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

/** Checked, complete and frozen. */
export type ResolvedPressureOptions = Readonly<
  Required<Omit<PressureOptions, "reader">> & Pick<PressureOptions, "reader">
>;

/** @throws InvalidOptionError naming the option, its rule and what it was given. */
export function resolvePressureOptions(
  given: PressureOptions = {},
  prefix = "pressure",
): ResolvedPressureOptions {
  const options = readOptions(prefix, given, [...processSignals, "signals", "sampleMs", "reader"]);
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
  if (given === false) return false;
  if (given === undefined) return Object.freeze({ ...usual });
  const range = readOptions(path, given, ["from", "to"]);
  const from = finiteNumber(`${path}.from`, range.from, 0, 1e9);
  const to = finiteNumber(`${path}.to`, range.to, 0, 1e9);
  if (to <= from) throw new InvalidOptionError(`${path}.to`, `above ${path}.from, ${from}`, to);
  return Object.freeze({ from, to });
}

/** How a process has fared since it was read before. Shares are of what there is: 1 is all of it. */
export interface Readings {
  /** Share of the time in which the event loop was at work. */
  readonly eventLoop: number;
  /** The longest that anything waited for the event loop, in milliseconds. */
  readonly loopDelayMs: number;
  /** Share of the CPU that the process may use. */
  readonly cpu: number;
  /** Share of the memory that the process may use, of the heap or of all, whichever is more. */
  readonly memory: number;
}

/** Reads the process. The port between policies and what Node tells of itself. */
export interface ProcessReader {
  read(): Readings;
  /** Nobody will read any more. */
  close?(): void;
}

/** The reader of a process that has nothing to do: where time is virtual, what the real process does says nothing. */
export const idleReader: ProcessReader = {
  read: () => ({ eventLoop: 0, loopDelayMs: 0, cpu: 0, memory: 0 }),
};

/** How hard pressed something is. 0: there is room; 1: there is none. */
export interface Pressure {
  /** Asked on the way of calls, so it is cheap. */
  now(): number;
}
