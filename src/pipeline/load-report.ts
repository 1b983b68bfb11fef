import { performance } from "node:perf_hooks";
import { type CancelTask, type Clock, systemClock } from "../core/clock.js";
import { durationMs, InvalidOptionError, readOptions } from "../core/options.js";
import { type ReportError, tell } from "../core/user-code.js";

/** The part of grpc-js's `ServerMetricRecorder` that is used. */
export interface UtilizationRecorder {
  setApplicationUtilizationMetric(value: number): void;
  /** Without calls per second, clients reckon no weight (gRFC A58). */
  setQpsMetric?(value: number): void;
}

/** What one server has done. `served`, `shed` and `takenMs` are sums from its beginning. */
export interface ServerWork {
  /** Calls that ended without a failure of the server. */
  readonly served: number;
  /** Calls that were refused for load. */
  readonly shed: number;
  /** The time for which slots of calls have been taken, summed over all slots, in milliseconds. */
  readonly takenMs: number;
  /** Slots of calls; `Infinity` where none are counted. */
  readonly limit: number;
  /** Share of the slots of streams that is taken now. */
  readonly streams: number;
}

/** A server that a report speaks of. */
export interface ReportedServer {
  workAt(nowMs: number): ServerWork;
}

export interface LoadReportOptions {
  /** How often the recorder is told. 100 ms to 24 days. @defaultValue 1_000 */
  readonly intervalMs?: number;
}

/** An interval in which so many calls ended has the full weight of `mostNew`. */
const fullInterval = 300;
/** Weight of the newest interval in what is reported: with few calls, more intervals count. */
const leastNew = 0.1;
const mostNew = 0.3;
/** No report says less: a server whose utilisation is 0 has no weight, and gets no calls from which it could earn one. */
const leastUtilization = 0.01;
/** Calls per second that a server is taken to bear until it has served one: 1 at the least utilisation. */
const unknownCapacity = 100;
/** As few calls as this share of what it could bear once show a server that hangs or fails that it is well again. */
const leastShare = 0.05;
/** Calls in the faded sum from which on the capacity counts as known. */
const knownFrom = 3;

/**
 * Calls that all servers of this process have served, by their reports. The event loop is shared by all servers of a
 * process, so how busy it is can only be held against the calls of all of them.
 */
const inProcess = { served: 0 };

/** Sums that fade alike, so that their ratios are means over the same time. */
interface Faded {
  ms: number;
  served: number;
  servedInProcess: number;
  shed: number;
  slots: number;
  loopMs: number;
}

/**
 * Tells an ORCA recorder how much of its capacity a server uses, so that clients that balance by weight (gRFC A58) give
 * each server what it can bear.
 *
 * Clients reckon the weight as calls per second by utilisation. Both are means over the same intervals, so the weight is
 * the calls per second that the server would bear at a utilisation of 1: how much it is used does not change it. It is
 * less for a server that takes longer for each call, and for one that sheds by the share that it sheds. A server that
 * has not served a call yet reports a small weight, one that serves none of those that come a twentieth of the best that
 * it had, and one without calls keeps what it had.
 *
 * The utilisation is the greatest of the share of the slots of calls that was taken, that of streams, and the busy share
 * of the event loop.
 */
export class LoadReport {
  readonly #recorder: UtilizationRecorder;
  readonly #servers: Iterable<ReportedServer>;
  readonly #intervalMs: number;
  readonly #clock: Clock;
  readonly #report: ReportError;
  readonly #faded: Faded = { ms: 0, served: 0, servedInProcess: 0, shed: 0, slots: 0, loopMs: 0 };
  /** What had been done at the last report. */
  readonly #before = new WeakMap<ReportedServer, ServerWork>();
  #toldMs: number;
  #servedInProcess = inProcess.served;
  #loopMs: number;
  /** Calls per second at a utilisation of 1. */
  #capacity = unknownCapacity;
  /** The most that this has been. */
  #best = 0;
  #closed = false;
  #stop: CancelTask | undefined;

  /**
   * @param servers May grow after this.
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
    this.#toldMs = clock.now();
    this.#loopMs = this.#loopBusyMs();
    for (const server of servers) this.#before.set(server, server.workAt(this.#toldMs));
    this.#tell();
  }

  close(): void {
    this.#closed = true;
    this.#stop?.();
    this.#stop = undefined;
  }

  #tell(): void {
    this.#read();
    const { ms, served, shed, slots, loopMs } = this.#faded;
    const used = ms > 0 ? Math.max(slots, loopMs) / ms : 0;
    const utilization = Math.max(leastUtilization, used);
    // A server that refuses half of what comes to it is used twice as much as it can bear.
    const askedFor = served + shed > 0 ? 1 - shed / (served + shed) : 1;
    const recorder = this.#recorder;
    const told = Math.min(utilization / Math.max(askedFor, leastUtilization), 1 / leastUtilization);
    const perSecond = this.#capacity * utilization;
    const task = () => {
      recorder.setApplicationUtilizationMetric(told);
      return recorder.setQpsMetric?.(perSecond);
    };
    tell(task, this.#report, "reportLoad.recorder");
    // A recorder may close the weir.
    if (this.#closed) return;
    this.#stop = this.#clock.schedule(this.#intervalMs, () => this.#tell(), { ref: false });
  }

  /** Takes in what has happened since the last report. */
  #read(): void {
    const nowMs = this.#clock.now();
    const spanMs = nowMs - this.#toldMs;
    if (spanMs <= 0) return;
    this.#toldMs = nowMs;
    let served = 0;
    let shed = 0;
    // Of several servers, the fullest.
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
    const faded = this.#faded;
    const add = (name: keyof Faded, value: number) => {
      faded[name] += weight * (value - faded[name]);
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
    if (faded.served >= knownFrom) this.#best = Math.max(this.#best, measured);
    this.#capacity = Math.max(measured, leastShare * this.#best);
  }

  /** Calls per second at a utilisation of 1, by what runs out first; `undefined` while nothing says it. */
  #measured(): number | undefined {
    const { served, servedInProcess, slots, loopMs } = this.#faded;
    // As good as no call: what is left of those before long ago.
    if (served < 0.01) return undefined;
    const bySlots = slots > 0 ? (served * 1000) / slots : Number.POSITIVE_INFINITY;
    const byLoop = loopMs > 0 ? (servedInProcess * 1000) / loopMs : Number.POSITIVE_INFINITY;
    const capacity = Math.min(bySlots, byLoop);
    return capacity === Number.POSITIVE_INFINITY ? undefined : capacity;
  }

  /** Where time is virtual, what the real process does says nothing. */
  #loopBusyMs(): number {
    return this.#clock === systemClock ? performance.eventLoopUtilization().active : 0;
  }
}
