import { LRUCache } from "lru-cache";
import type { Clock } from "../core/clock.js";
import { readOptions, wholeNumber } from "../core/options.js";
import { LatencyQuantile } from "../core/stats/latency-quantile.js";
import type { CallRow, SpanView, TraceView } from "./api.js";

/** @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/viewer.md */
export interface StoreLimits {
  /** How many traces are kept. A whole number of at least 1. @defaultValue 10_000 */
  readonly maxTraces?: number;
  /** How many spans are kept. A whole number of at least 1. @defaultValue 50_000 */
  readonly maxSpans?: number;
  /** How many bytes they take, by an estimate. A whole number of at least 100,000. @defaultValue 64_000_000 */
  readonly maxBytes?: number;
}

/** The spans that are kept of one trace. Those that follow are dropped, but for its root. */
const maxSpansOfTrace = 2_000;

/** A call is slow if it took longer than this share of the calls of its method in the last ten minutes. */
const slowShare = 0.99;
/** Methods for which that is known. */
const maxMethods = 200;

/** Traces that were dropped and are remembered, so that what comes late for them is shown as a part. */
const maxForgotten = 10_000;

/**
 * The spans and calls that are kept, in bounded memory. The oldest trace is dropped first. A trace with a call that failed or
 * was slow stays longer: such traces may take half of the place before the oldest of them is dropped.
 *
 * Spans of a trace come in any order. `add` takes constant time.
 */
export class TraceStore {
  readonly #limits: Required<StoreLimits>;
  readonly #clock: Pick<Clock, "now">;
  readonly #traces = new Map<string, Trace>();
  readonly #ordinary = new Line();
  readonly #notable = new Line();
  readonly #calls = new Map<string, CallRow>();
  readonly #latencies = new LRUCache<string, LatencyQuantile>({ max: maxMethods });
  #forgotten = new Set<string>();
  #forgottenBefore = new Set<string>();
  #spans = 0;
  #bytes = 0;
  #droppedCalls = 0;

  /** @throws InvalidOptionError for a limit out of its range. */
  constructor(limits: StoreLimits, clock: Pick<Clock, "now">) {
    this.#limits = readLimits(limits);
    this.#clock = clock;
  }

  get spanCount(): number {
    return this.#spans;
  }

  get traceCount(): number {
    return this.#traces.size;
  }

  /** The estimate of what all kept spans take. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Calls that were dropped with their traces. */
  get droppedCalls(): number {
    return this.#droppedCalls;
  }

  /** The calls that are kept, the oldest first. */
  get calls(): ReadonlyMap<string, CallRow> {
    return this.#calls;
  }

  /** Adds a span. False if it is known already, or its trace has too many. */
  add(span: SpanView): boolean {
    const trace = this.#traceOf(span.traceId);
    if (trace.spans.has(span.spanId)) return false;
    if (trace.spans.size >= maxSpansOfTrace && span.parentSpanId !== undefined) {
      trace.truncated = true;
      return false;
    }
    const bytes = bytesOf(span);
    trace.spans.set(span.spanId, span);
    trace.bytes += bytes;
    this.#spans += 1;
    this.#bytes += bytes;
    this.#dropOldest();
    return true;
  }

  /** Adds a call to its trace, which may be gone already. */
  addCall(call: CallRow): void {
    const trace = this.#traces.get(call.traceId);
    const notable = call.status !== "OK" || this.#isSlow(call);
    if (trace === undefined) {
      this.#droppedCalls += 1;
      return;
    }
    this.#calls.set(call.id, call);
    trace.calls.push(call);
    if (notable && !trace.notable) {
      this.#ordinary.remove(trace);
      trace.notable = true;
      this.#notable.push(trace);
    }
  }

  /** Takes a call back: another one tells of the same. */
  removeCall(call: CallRow): void {
    if (!this.#calls.delete(call.id)) return;
    const trace = this.#traces.get(call.traceId);
    if (trace !== undefined) trace.calls = trace.calls.filter((kept) => kept !== call);
  }

  has(traceId: string, spanId: string): boolean {
    return this.#traces.get(traceId)?.spans.has(spanId) === true;
  }

  view(traceId: string): TraceView | undefined {
    const trace = this.#traces.get(traceId);
    if (trace === undefined) return undefined;
    const spans = [...trace.spans.values()].sort((a, b) => a.startMs - b.startMs);
    return { traceId, spans, truncated: trace.truncated };
  }

  #traceOf(traceId: string): Trace {
    const known = this.#traces.get(traceId);
    if (known !== undefined) return known;
    const truncated = this.#forgotten.has(traceId) || this.#forgottenBefore.has(traceId);
    const trace = new Trace(traceId, truncated);
    this.#traces.set(traceId, trace);
    this.#ordinary.push(trace);
    return trace;
  }

  /** Compares a call with those of its method before it. */
  #isSlow({ method, durationMs }: CallRow): boolean {
    const nowMs = this.#clock.now();
    let latency = this.#latencies.get(method);
    if (latency === undefined) {
      latency = new LatencyQuantile({ windowMs: 600_000 }, this.#clock);
      this.#latencies.set(method, latency);
    }
    const usualMs = latency.quantile(slowShare, nowMs);
    latency.record(durationMs, nowMs);
    // What the quantile says is off by up to 5 %.
    return usualMs !== undefined && durationMs > usualMs * 1.05;
  }

  #dropOldest(): void {
    const { maxTraces, maxSpans, maxBytes } = this.#limits;
    while (this.#traces.size > maxTraces || this.#spans > maxSpans || this.#bytes > maxBytes) {
      const mostNotable = this.#notable.length > this.#ordinary.length;
      const oldest =
        (mostNotable ? this.#notable.first : this.#ordinary.first) ?? this.#notable.first;
      if (oldest === undefined) return;
      this.#drop(oldest);
    }
  }

  #drop(trace: Trace): void {
    (trace.notable ? this.#notable : this.#ordinary).remove(trace);
    this.#traces.delete(trace.traceId);
    this.#spans -= trace.spans.size;
    this.#bytes -= trace.bytes;
    for (const { id } of trace.calls) this.#calls.delete(id);
    this.#droppedCalls += trace.calls.length;
    this.#forgotten.add(trace.traceId);
    if (this.#forgotten.size < maxForgotten) return;
    this.#forgottenBefore = this.#forgotten;
    this.#forgotten = new Set();
  }
}

function readLimits(limits: StoreLimits): Required<StoreLimits> {
  const {
    maxTraces = 10_000,
    maxSpans = 50_000,
    maxBytes = 64_000_000,
  } = readOptions("traceViewer.limits", limits, ["maxTraces", "maxSpans", "maxBytes"]);
  return {
    maxTraces: wholeNumber("traceViewer.limits.maxTraces", maxTraces, 1),
    maxSpans: wholeNumber("traceViewer.limits.maxSpans", maxSpans, 1),
    maxBytes: wholeNumber("traceViewer.limits.maxBytes", maxBytes, 100_000),
  };
}

class Trace {
  readonly traceId: string;
  readonly spans = new Map<string, SpanView>();
  calls: CallRow[] = [];
  bytes = 0;
  truncated: boolean;
  /** One of its calls failed or was slow. */
  notable = false;
  older: Trace | undefined;
  newer: Trace | undefined;

  constructor(traceId: string, truncated: boolean) {
    this.traceId = traceId;
    this.truncated = truncated;
  }
}

/** Traces by age. A `Map` would do, but its first key is slow to find where many before it were deleted. */
class Line {
  #first: Trace | undefined;
  #last: Trace | undefined;
  #length = 0;

  get first(): Trace | undefined {
    return this.#first;
  }

  get length(): number {
    return this.#length;
  }

  push(trace: Trace): void {
    trace.older = this.#last;
    if (this.#last === undefined) this.#first = trace;
    else this.#last.newer = trace;
    this.#last = trace;
    this.#length += 1;
  }

  remove(trace: Trace): void {
    const { older, newer } = trace;
    if (older === undefined) this.#first = newer;
    else older.newer = newer;
    if (newer === undefined) this.#last = older;
    else newer.older = older;
    trace.older = undefined;
    trace.newer = undefined;
    this.#length -= 1;
  }
}

/**
 * What a span takes with its maps, and each attribute and event of it, beside its texts; measured with Node 20. The short names
 * that spans usually have are in there: many spans share them.
 */
const spanBytes = 500;
const attributeBytes = 40;
const eventBytes = 150;
/** A longer name counts with its whole length. */
const shortName = 64;

function bytesOf(span: SpanView): number {
  const { name, statusMessage = "", service, scope, attributes, events } = span;
  let bytes = spanBytes + 2 * (name.length + statusMessage.length) + bytesOfAll(attributes);
  bytes += bytesOfName(service) + bytesOfName(scope);
  for (const event of events) {
    bytes += eventBytes + bytesOfName(event.name) + bytesOfAll(event.attributes);
  }
  return bytes;
}

function bytesOfName({ length }: string): number {
  return length <= shortName ? 0 : 2 * length;
}

function bytesOfAll(attributes: SpanView["attributes"]): number {
  let bytes = 0;
  for (const key in attributes) {
    const value = attributes[key];
    bytes += attributeBytes + bytesOfName(key);
    if (typeof value === "string") bytes += 2 * value.length;
    else if (typeof value === "object") bytes += 2 * JSON.stringify(value).length;
  }
  return bytes;
}
