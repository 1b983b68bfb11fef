import { performance } from "node:perf_hooks";
import { type CancelTask, type Clock, systemClock } from "../core/clock.js";
import { durationMs, InvalidOptionError, readOptions } from "../core/options.js";
import { callSafely, type ReportError } from "../core/user-code.js";

/**
 * What a load report needs of a `ServerMetricRecorder` of grpc-js.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/drain.md#load-reports
 */
export interface UtilizationRecorder {
  setApplicationUtilizationMetric(value: number): void;
  /** Clients need calls per second to compute a weight (gRFC A58). */
  setQpsMetric?(value: number): void;
}

/** What one server has done. `served`, `shed` and `takenMs` are sums since it was built. */
export interface ServerWork {
  /** Calls that ended without a failure of the server. */
  readonly served: number;
  /** Calls that were refused for load. */
  readonly shed: number;
  /** The time for which slots of calls have been in use, summed over all slots, in milliseconds. */
  readonly takenMs: number;
  /** Slots of calls; `Infinity` where they are not counted. */
  readonly limit: number;
  /** Share of the slots of streams that is in use now, from 0 to 1. */
  readonly streams: number;
}

/** A server whose load is reported. */
export interface ReportedServer {
  workAt(nowMs: number): ServerWork;
}

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/drain.md#load-reports */
export interface LoadReportOptions {
  /** The time between two reports, in milliseconds. 100 ms to 24 days. @defaultValue 1_000 */
  readonly intervalMs?: number;
}

/** Calls in an interval from which it has the weight `mostNew`. */
const fullInterval = 300;
/** Weight of the newest interval in the averages. With few calls it is less, so that more intervals count. */
const leastNew = 0.1;
const mostNew = 0.3;
/**
 * The lowest utilisation that is reported. At 0 a server has no weight, gets no calls, and could never earn a weight.
 */
const leastUtilization = 0.01;
/** Assumed capacity of a server that has not served a call, in calls per second: 1 at the lowest utilisation. */
const unknownCapacity = 100;
/**
 * The lowest capacity that is reported, as a share of the best one: enough calls to see that a failing server has
 * recovered.
 */
const leastShare = 0.05;
/** Average calls of an interval from which the capacity counts as known. */
const knownFrom = 3;

/**
 * Calls that all servers of this process have served. They share the event loop, so its busy time belongs to the calls
 * of all of them.
 */
const inProcess = { served: 0 };

/** Averages of one interval, all with the same weights, so that their ratios are means over the same time. */
interface Averages {
  ms: number;
  served: number;
  servedInProcess: number;
  shed: number;
  slots: number;
  loopMs: number;
}

/**
 * Reports the utilisation of the servers of a weir to an ORCA recorder, so that clients that balance by weight (gRFC
 * A58) send each server as many calls as it can serve.
 *
 * Clients compute the weight as calls per second divided by utilisation. Both are means over the same intervals, so the
 * weight is the server's capacity: the calls per second that it would serve at a utilisation of 1, however much it is
 * used now. It is
 * - lower for a server that takes longer for each call,
 * - reduced by the share of calls that the server sheds,
 * - small for a server that has not served a call yet,
 * - a twentieth of its best value for a server that serves none of the calls that come,
 * - unchanged for a server without calls.
 *
 * The utilisation is the greatest of three: the share of the slots of calls in use, that of streams, and the busy share
 * of the event loop.
 */
export class LoadReport {
  readonly #recorder: UtilizationRecorder;
  readonly #servers: Iterable<ReportedServer>;
  readonly #intervalMs: number;
  readonly #clock: Clock;
  readonly #report: ReportError;
  readonly #averages: Averages = {
    ms: 0,
    served: 0,
    servedInProcess: 0,
    shed: 0,
    slots: 0,
    loopMs: 0,
  };
  /** The work at the last report. */
  readonly #before = new WeakMap<ReportedServer, ServerWork>();
  #reportedMs: number;
  #servedInProcess = inProcess.served;
  #loopMs: number;
  /** Calls per second at a utilisation of 1. */
  #capacity = unknownCapacity;
  /** The highest capacity so far. */
  #best = 0;
  #closed = false;
  #stop: CancelTask | undefined;

  /**
   * @param servers Asked at each report: servers may be added.
   * @throws InvalidOptionError naming the option, its rule and what it was given.
   */
  constructor(
    recorder: UtilizationRecorder,
    servers: Iterable<ReportedServer>,
    given: LoadReportOptions,
    clock: Clock,
    report: ReportError,
  ) {
    const options = readOptions("reportLoad", given, ["intervalMs"]);
    if (typeof recorder?.setApplicationUtilizationMetric !== "function") {
      const rule = "a recorder: it has no setApplicationUtilizationMetric()";
      throw new InvalidOptionError("reportLoad.recorder", rule, recorder);
    }
    const { intervalMs = 1_000 } = options;
    this.#intervalMs = durationMs("reportLoad.intervalMs", intervalMs, 100);
    this.#recorder = recorder;
    this.#servers = servers;
    this.#clock = clock;
    this.#report = report;
    this.#reportedMs = clock.now();
    this.#loopMs = this.#loopBusyMs();
    for (const server of servers) this.#before.set(server, server.workAt(this.#reportedMs));
    this.#reportNow();
  }

  close(): void {
    this.#closed = true;
    this.#stop?.();
    this.#stop = undefined;
  }

  #reportNow(): void {
    this.#read();
    const { ms, served, shed, slots, loopMs } = this.#averages;
    const used = ms > 0 ? Math.max(slots, loopMs) / ms : 0;
    const utilization = Math.max(leastUtilization, used);
    // A server that refuses half of its calls reports twice its utilisation.
    const servedShare = served + shed > 0 ? 1 - shed / (served + shed) : 1;
    const recorder = this.#recorder;
    const reported = Math.min(
      utilization / Math.max(servedShare, leastUtilization),
      1 / leastUtilization,
    );
    const perSecond = this.#capacity * utilization;
    const task = () => {
      recorder.setApplicationUtilizationMetric(reported);
      return recorder.setQpsMetric?.(perSecond);
    };
    callSafely(task, this.#report, "reportLoad.recorder");
    // A recorder may close the weir.
    if (this.#closed) return;
    this.#stop = this.#clock.schedule(this.#intervalMs, () => this.#reportNow(), { ref: false });
  }

  /** Reads what the servers did since the last report into the averages. */
  #read(): void {
    const nowMs = this.#clock.now();
    const spanMs = nowMs - this.#reportedMs;
    if (spanMs <= 0) return;
    this.#reportedMs = nowMs;
    let served = 0;
    let shed = 0;
    // The fullest of several servers counts.
    let share = 0;
    for (const server of this.#servers) {
      const work = server.workAt(nowMs);
      const before = this.#before.get(server);
      this.#before.set(server, work);
      served += work.served - (before?.served ?? 0);
      shed += work.shed - (before?.shed ?? 0);
      const takenMs = work.takenMs - (before?.takenMs ?? 0);
      share = Math.max(share, takenMs / spanMs / work.limit, work.streams);
    }
    inProcess.served += served;
    const servedInProcess = inProcess.served - this.#servedInProcess;
    this.#servedInProcess = inProcess.served;
    const loopMs = this.#loopBusyMs();
    const weight = Math.min(mostNew, Math.max(leastNew, served / fullInterval));
    const averages = this.#averages;
    const add = (name: keyof Averages, value: number) => {
      averages[name] += weight * (value - averages[name]);
    };
    add("ms", spanMs);
    add("served", served);
    add("servedInProcess", servedInProcess);
    add("shed", shed);
    add("slots", share * spanMs);
    add("loopMs", loopMs - this.#loopMs);
    this.#loopMs = loopMs;
    const measured = this.#measured();
    if (measured === undefined) return;
    if (averages.served >= knownFrom) this.#best = Math.max(this.#best, measured);
    this.#capacity = Math.max(measured, leastShare * this.#best);
  }

  /**
   * Calls per second at a utilisation of 1, by what is used up first: slots or the event loop. `undefined` without
   * calls.
   */
  #measured(): number | undefined {
    const { served, servedInProcess, slots, loopMs } = this.#averages;
    // What is left in the average of calls from long ago.
    if (served < 0.01) return undefined;
    const bySlots = slots > 0 ? (served * 1000) / slots : Number.POSITIVE_INFINITY;
    const byLoop = loopMs > 0 ? (servedInProcess * 1000) / loopMs : Number.POSITIVE_INFINITY;
    const capacity = Math.min(bySlots, byLoop);
    return capacity === Number.POSITIVE_INFINITY ? undefined : capacity;
  }

  /** Busy time of the event loop. Under a virtual clock, readings of the real process mean nothing. */
  #loopBusyMs(): number {
    return this.#clock === systemClock ? performance.eventLoopUtilization().active : 0;
  }
}
