import type { Clock } from "../../core/clock.js";
import { isRecord } from "../../core/options.js";
import { ask, finite, type ReportError, tell } from "../../core/user-code.js";
import {
  type ProcessReader,
  processSignals,
  type Readings,
  type ResolvedPressureOptions,
} from "./options.js";

/** The pressure at one moment, for people and reports. Each is from 0 to 1. */
export interface PressureSnapshot {
  /** The greatest of the signals. */
  readonly pressure: number;
  readonly signals: Readonly<Record<string, number>>;
}

/** Time in which half of the distance to a new reading is made up. */
const halfLifeMs = 250;

/**
 * One number for how hard pressed a process is: the greatest of its signals, each from 0 (there is room) to 1 (there
 * is none). It reads at most once in `sampleMs`, when somebody asks, and smooths what it reads: one long garbage
 * collection is no overload. Memory is not smoothed; it does not jump, and waiting is dangerous.
 */
export class PressureMeter {
  readonly #options: ResolvedPressureOptions;
  readonly #reader: ProcessReader;
  readonly #clock: Pick<Clock, "now">;
  readonly #report: ReportError;
  /** A ratio of 0 to 1 where the signal is in its range, below 0 where there is room to spare. */
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

  /** From 0 to 1. Reads the clock, and a few times a second the process. */
  now(): number {
    this.#refresh();
    return this.#pressure;
  }

  /** The longest that anything waited for the event loop of late, in milliseconds. */
  get loopDelayMs(): number {
    this.#refresh();
    return this.#loopDelayMs;
  }

  /**
   * The greatest of some signals, by their names. The delay of the event loop counts while the process is busy: a pause of
   * an idle one (a garbage collection, a large message) holds calls up, and fewer calls would not have made it shorter.
   */
  of(names: Iterable<string>): number {
    this.#refresh();
    let pressure = 0;
    for (const name of names) {
      if (name !== "loopDelayMs" || this.#busy) {
        pressure = Math.max(pressure, clamp(this.#ratios.get(name) ?? 0));
      }
    }
    return pressure;
  }

  /** Some signal stands in its range: the process has little more to give. */
  saturated(): boolean {
    return this.of(this.#ratios.keys()) > 0;
  }

  /** The event loop or the CPU is busy; assumed where neither is measured. */
  get #busy(): boolean {
    const loop = this.#ratios.get("eventLoop");
    const cpu = this.#ratios.get("cpu");
    if (loop === undefined && cpu === undefined) return true;
    return Math.max(loop ?? 0, cpu ?? 0) > 0;
  }

  snapshot(): PressureSnapshot {
    this.#refresh();
    const signals: Record<string, number> = {};
    for (const [name, ratio] of this.#ratios) signals[name] = clamp(ratio);
    return { pressure: this.#pressure, signals };
  }

  /** Reads nothing more; what was read last stays. */
  close(): void {
    this.#readMs = Number.POSITIVE_INFINITY;
    tell(() => this.#reader.close?.(), this.#report, "pressure.reader");
  }

  #refresh(): void {
    const nowMs = this.#clock.now();
    const sinceMs = nowMs - this.#readMs;
    if (sinceMs < this.#options.sampleMs) return;
    this.#readMs = nowMs;
    // A process is busy while it starts: its first reading says nothing of the calls that come then.
    const kept = sinceMs === Number.POSITIVE_INFINITY ? 1 : 0.5 ** (sinceMs / halfLifeMs);
    this.#readProcess(kept);
    this.#readSignals();
    let pressure = 0;
    for (const ratio of this.#ratios.values()) pressure = Math.max(pressure, clamp(ratio));
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
      // A signal that is broken is no pressure: it must not shut a server down, nor keep what it said last.
      if (value === undefined) this.#ratios.delete(name);
      else this.#note(name, value, 0);
    }
  }

  #note(name: string, ratio: number, kept: number): void {
    const before = this.#ratios.get(name) ?? -1;
    // An event loop that was idle for a day is as idle as one that was for a second.
    const bounded = Math.max(-1, Math.min(1, ratio));
    this.#ratios.set(name, bounded + kept * (before - bounded));
  }
}

/** Numbers only: of what a reader leaves out or makes up, nothing is known. */
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

function clamp(ratio: number): number {
  return Math.max(0, Math.min(1, ratio));
}
