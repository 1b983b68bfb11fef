import type { CancelTask, Clock } from "../core/clock.js";
import type { BoardPoint, CallRow, SpanView } from "./api.js";
import { Board, type BoardSample } from "./board.js";
import type { GaugeReading } from "./otlp/gauges.js";
import { callOf, httpServerPort, isExport } from "./span.js";
import { type StoreLimits, TraceStore } from "./trace-store.js";

/** Told of what is new. */
export interface RecorderWatch {
  onCall(call: CallRow): void;
  /** Each second; see {@link Board.tick}. */
  onPoints(points: readonly BoardPoint[]): void;
}

export interface RecorderOptions {
  readonly limits: StoreLimits;
  readonly clock: Clock;
  /** What the process of the viewer says of itself, each second, and its service. */
  readonly sample?: () => { readonly sample: BoardSample; readonly service: string } | undefined;
}

/**
 * A server's span whose caller's span has not come waits so long for it: a call that is seen from both sides is shown once.
 * Exporters send each 5 s, if they are not told otherwise.
 */
const callerComesMs = 8_000;
/** Of so many it is known that they have no caller here; then the oldest are forgotten, some at a time. */
const maxOrphans = 10_000;
const forgottenAtOnce = 1_000;
/** Methods whose callers are known to report here. */
const maxMethods = 1_000;

/** Takes spans and gauges, and makes calls, traces and the board of them. */
export class Recorder {
  readonly store: TraceStore;
  readonly board: Board;
  readonly #clock: Clock;
  readonly #sample: RecorderOptions["sample"];
  readonly #watch: RecorderWatch;
  /** The calls of servers whose callers' spans have not come, by those spans, with what was shown of them. */
  readonly #orphans = new Map<string, Orphan[]>();
  #orphanCount = 0;
  /** Those of them that are not shown yet, the oldest first. */
  readonly #waiting = new Set<Orphan>();
  readonly #ownPorts = new Set<number>();
  readonly #callersReport = new Set<string>();
  #cancelTick: CancelTask;

  constructor(options: RecorderOptions, watch: RecorderWatch) {
    this.#clock = options.clock;
    this.#sample = options.sample;
    this.#watch = watch;
    this.store = new TraceStore(options.limits, options.clock);
    this.board = new Board(options.clock);
    this.#cancelTick = this.#scheduleTick();
  }

  /** Requests to this port are the viewer's own. Their spans are left out. */
  addOwnPort(port: number): void {
    this.#ownPorts.add(port);
  }

  record(span: SpanView): void {
    const port = httpServerPort(span);
    if ((port !== undefined && this.#ownPorts.has(port)) || isExport(span)) return;
    if (!this.store.add(span)) return;
    this.#callerCame(span);
    const call = callOf(span);
    if (call === undefined) return;
    if (call.side === "client" || span.parentSpanId === undefined) {
      this.#show(call);
    } else if (!this.store.has(span.traceId, span.parentSpanId)) {
      this.#showOrWait(call, span.parentSpanId);
    } else {
      this.#callerReports(call);
    }
  }

  setGauges(readings: readonly GaugeReading[]): void {
    for (const reading of readings) this.board.setGauge(reading);
  }

  close(): void {
    this.#cancelTick();
  }

  #show(call: CallRow): void {
    this.store.addCall(call);
    this.board.addCall(call);
    this.#watch.onCall(call);
  }

  /** Where no caller of the method reports here, nothing would come that is worth to wait for. */
  #showOrWait(call: CallRow, parentSpanId: string): void {
    const waits = this.#callersReport.has(call.method);
    const parent = `${call.traceId}-${parentSpanId}`;
    const orphan = { call, parent, sinceMs: this.#clock.now() };
    const siblings = this.#orphans.get(parent);
    if (siblings === undefined) this.#orphans.set(parent, [orphan]);
    else siblings.push(orphan);
    this.#orphanCount += 1;
    if (!waits) this.#show(call);
    else this.#waiting.add(orphan);
    if (this.#orphanCount > maxOrphans) this.#forgetOldestOrphans();
  }

  /** The calls that a span made are told by its own span, or by that of its call. */
  #callerCame(span: SpanView): void {
    const key = `${span.traceId}-${span.spanId}`;
    const orphans = this.#orphans.get(key);
    if (orphans === undefined) return;
    this.#orphans.delete(key);
    this.#orphanCount -= orphans.length;
    for (const orphan of orphans) {
      this.#callerReports(orphan.call);
      if (!this.#waiting.delete(orphan)) this.store.removeCall(orphan.call);
    }
  }

  #callerReports({ method }: CallRow): void {
    if (this.#callersReport.size >= maxMethods) this.#callersReport.clear();
    this.#callersReport.add(method);
  }

  #forgetOldestOrphans(): void {
    for (const [parent, orphans] of this.#orphans) {
      if (this.#orphanCount <= maxOrphans - forgottenAtOnce) return;
      this.#orphans.delete(parent);
      this.#orphanCount -= orphans.length;
      for (const orphan of orphans) if (this.#waiting.delete(orphan)) this.#show(orphan.call);
    }
  }

  #showThoseWithoutCaller(): void {
    const dueMs = this.#clock.now() - callerComesMs;
    for (const orphan of this.#waiting) {
      if (orphan.sinceMs > dueMs) return;
      this.#waiting.delete(orphan);
      this.#show(orphan.call);
    }
  }

  #scheduleTick(): CancelTask {
    const untilNextSecond = 1000 - (this.#clock.wallNow() % 1000);
    return this.#clock.schedule(
      untilNextSecond,
      () => {
        this.#cancelTick = this.#scheduleTick();
        this.#tick();
      },
      { ref: false },
    );
  }

  #tick(): void {
    this.#showThoseWithoutCaller();
    const own = this.#sample?.();
    this.#watch.onPoints(this.board.tick(own?.sample, own?.service));
  }
}

/** The call of a server whose caller's span has not come. */
interface Orphan {
  readonly call: CallRow;
  /** The key of that span. */
  readonly parent: string;
  readonly sinceMs: number;
}
