import type { Clock } from "../../core/clock.js";
import { isRecord } from "../../core/options.js";
import { ask, callSafely, finite, type ReportError } from "../../core/user-code.js";
import {
  type ProcessReader,
  processSignals,
  type Readings,
  type ResolvedPressureOptions,
} from "./options.js";

/**
 * The pressure now, for people and reports. All numbers are from 0 to 1.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/admission.md
 */
export interface PressureSnapshot {
  /** The highest of the signals. */
  readonly pressure: number;
  readonly signals: Readonly<Record<string, number>>;
}

/** The half-life of the smoothing: after this many milliseconds, an old reading has half of its weight. */
const halfLifeMs = 250;

/**
 * The pressure on a process as one number: the highest of its signals, each from 0 (there is room) to 1 (there is none). It
 * reads the process when it is asked, at most once in `sampleMs`. CPU and event loop are smoothed, because one long garbage
 * collection is no overload. Memory is not, because it does not jump and a late reaction is dangerous; nor are the signals of
 * the user.
 */
export class PressureMeter {
  #options: ResolvedPressureOptions;
  readonly #reader: ProcessReader;
  readonly #clock: Pick<Clock, "now">;
  readonly #report: ReportError;
  /** By signal: its place in its range, from 0 to 1; below 0, down to -1, when it is below the range. */
  readonly #ratios = new Map<string, number>();
  #readMs = Number.NEGATIVE_INFINITY;
  #pressure = 0;
  #loopDelayMs = 0;

  constructor(
    options: ResolvedPressureOptions,
    reader: ProcessReader,
    clock: Pick<Clock, "now">,
    report: ReportError,
  ) {
    this.#options = options;
    this.#reader = options.reader ?? reader;
    this.#clock = clock;
    this.#report = report;
  }

  /** Goes on with other ranges and signals. The reader stays. */
  reconfigure(fresh: PressureMeter): void {
    this.#options = fresh.#options;
    // A signal that is left out must not count for ever.
    this.#ratios.clear();
    this.#readMs = Number.NEGATIVE_INFINITY;
  }

  /** The pressure, from 0 to 1. Reads the clock, and now and then the process. */
  now(): number {
    this.#refresh();
    return this.#pressure;
  }

  /** The longest wait for the event loop in the last reading, in milliseconds. */
  get loopDelayMs(): number {
    this.#refresh();
    return this.#loopDelayMs;
  }

  /**
   * The highest of the named signals. The delay of the event loop counts only while the process is busy: a pause of an idle
   * process (a garbage collection, a large message) delays calls, but with fewer calls it would have been as long.
   */
  of(names: Iterable<string>): number {
    this.#refresh();
    let pressure = 0;
    for (const name of names) {
      if (name !== "loopDelayMs" || this.#busy) {
        pressure = Math.max(pressure, this.#ratios.get(name) ?? 0);
      }
    }
    return pressure;
  }

  /** The event loop or the CPU is above the start of its range. True when neither is measured. */
  get #busy(): boolean {
    const loop = this.#ratios.get("eventLoop");
    const cpu = this.#ratios.get("cpu");
    if (loop === undefined && cpu === undefined) return true;
    return isInRange(loop) || isInRange(cpu);
  }

  snapshot(): PressureSnapshot {
    this.#refresh();
    const signals: Record<string, number> = {};
    for (const [name, ratio] of this.#ratios) signals[name] = Math.max(0, ratio);
    return { pressure: this.#pressure, signals };
  }

  /** Closes the reader. The last reading stays. */
  close(): void {
    this.#readMs = Number.POSITIVE_INFINITY;
    callSafely(() => this.#reader.close?.(), this.#report, "pressure.reader");
  }

  #refresh(): void {
    const nowMs = this.#clock.now();
    const sinceMs = nowMs - this.#readMs;
    if (sinceMs < this.#options.sampleMs) return;
    this.#readMs = nowMs;
    // A process is busy while it starts, so its first reading is ignored.
    const kept = sinceMs === Number.POSITIVE_INFINITY ? 1 : 0.5 ** (sinceMs / halfLifeMs);
    this.#readProcess(kept);
    this.#readSignals();
    let pressure = 0;
    for (const ratio of this.#ratios.values()) pressure = Math.max(pressure, ratio);
    this.#pressure = pressure;
  }

  #readProcess(kept: number): void {
    const reader = () => this.#reader.read();
    const readings = ask(reader, readingsOf, undefined, this.#report, "pressure.reader");
    if (readings === undefined) return;
    const { loopDelayMs } = readings;
    if (loopDelayMs >= 0) this.#loopDelayMs = loopDelayMs;
    for (const name of processSignals) {
      const range = this.#options[name];
      const reading = readings[name];
      if (range === false || !Number.isFinite(reading)) continue;
      const ratio = (reading - range.from) / (range.to - range.from);
      this.#note(name, ratio, name === "memory" ? 0 : kept);
    }
  }

  #readSignals(): void {
    for (const [name, signal] of Object.entries(this.#options.signals)) {
      const value = ask(signal, finite, undefined, this.#report, `pressure.signals.${name}`);
      // A signal that fails counts as no pressure: neither its error nor its last value may shut a server down.
      if (value === undefined) this.#ratios.delete(name);
      else this.#note(name, value, 0);
    }
  }

  #note(name: string, ratio: number, kept: number): void {
    const before = this.#ratios.get(name) ?? -1;
    // Bounded, so that a long idle time does not slow the rise.
    const bounded = Math.max(-1, Math.min(1, ratio));
    this.#ratios.set(name, bounded + kept * (before - bounded));
  }
}

/** The numbers of a reading. What is missing or is not a number becomes NaN, which leaves the signal out. */
function readingsOf(answer: unknown): Readings {
  if (!isRecord(answer)) throw new TypeError("the reader gave no readings");
  const { eventLoop, loopDelayMs, cpu, memory } = answer;
  if ([eventLoop, loopDelayMs, cpu, memory].every((reading) => typeof reading !== "number")) {
    throw new TypeError("the reader gave no readings");
  }
  const number = (reading: unknown) => (typeof reading === "number" ? reading : Number.NaN);
  return {
    eventLoop: number(eventLoop),
    loopDelayMs: number(loopDelayMs),
    cpu: number(cpu),
    memory: number(memory),
  };
}

function isInRange(ratio: number | undefined): boolean {
  return ratio !== undefined && ratio > 0;
}
