import type { CancelTask, Clock } from "../core/clock.js";
import { type ReportError, safely } from "../core/notify.js";
import { durationMs, InvalidOptionError, knownKeys } from "../core/options.js";

/** The part of grpc-js's `ServerMetricRecorder` that is used. */
export interface UtilizationRecorder {
  setApplicationUtilizationMetric(value: number): void;
  /** Without calls per second, clients reckon no weight (gRFC A58). */
  setQpsMetric?(value: number): void;
}

/** What is told of the servers. */
export interface ReportedLoad {
  /** Share of the capacity that is in use, above 1 while calls are shed. */
  utilization(): number;
  /** Calls that have come, from the beginning. */
  calls(): number;
}

export interface LoadReportOptions {
  /** How often the recorder is told. 100 ms to 24 days. @defaultValue 1_000 */
  readonly intervalMs?: number;
}

/** Weight of the newest value: shedding has to last some seconds before it moves clients away. */
const weight = 0.3;

/**
 * Tells an ORCA recorder how much of its capacity a server uses, so that clients that balance by weight (gRFC A58) turn
 * away from a server that sheds, before and while it does. Above 1 while it sheds.
 */
export class LoadReport {
  readonly #recorder: UtilizationRecorder;
  readonly #load: ReportedLoad;
  readonly #intervalMs: number;
  readonly #clock: Clock;
  readonly #report: ReportError;
  #smoothed = 0;
  #calls = 0;
  #stop: CancelTask | undefined;

  /** @throws InvalidOptionError naming the option, its rule and what it was given. */
  constructor(
    recorder: UtilizationRecorder,
    load: ReportedLoad,
    options: LoadReportOptions,
    clock: Clock,
    report: ReportError,
  ) {
    knownKeys("reportLoad", options, ["intervalMs"]);
    if (typeof recorder?.setApplicationUtilizationMetric !== "function") {
      const rule = "a recorder: it has no setApplicationUtilizationMetric()";
      throw new InvalidOptionError("reportLoad.recorder", rule, recorder);
    }
    const { intervalMs = 1_000 } = options;
    this.#intervalMs = durationMs("reportLoad.intervalMs", intervalMs, 100);
    this.#recorder = recorder;
    this.#load = load;
    this.#clock = clock;
    this.#report = report;
    this.#tell();
  }

  close(): void {
    this.#stop?.();
    this.#stop = undefined;
  }

  #tell(): void {
    this.#smoothed += weight * (this.#load.utilization() - this.#smoothed);
    try {
      this.#recorder.setApplicationUtilizationMetric(this.#smoothed);
      const calls = this.#load.calls();
      this.#recorder.setQpsMetric?.(((calls - this.#calls) * 1000) / this.#intervalMs);
      this.#calls = calls;
    } catch (error) {
      safely(this.#report, error, "reportLoad.recorder");
    }
    this.#stop = this.#clock.schedule(this.#intervalMs, () => this.#tell(), { ref: false });
  }
}
