import { status as Status, type StatusObject } from "@grpc/grpc-js";
import { type MeterProvider, metrics } from "@opentelemetry/api";
import type { Decision, DecisionCounter, Side } from "../core/decision.js";
import type { Gauges } from "../core/gauges.js";
import type { Priority } from "../core/priority.js";
import type { ReportError } from "../core/user-code.js";
import type { Attempt, AttemptPart, AttemptWatch } from "../grpc/client/attempt.js";
import type { MeterParts } from "../grpc/client/parts.js";
import type { CallPart, CallWatch, PipelineCall } from "../grpc/client/pipeline-call.js";
import type { CallRecord } from "../grpc/context/call-record.js";
import type { ServerMeterPart } from "../grpc/server/pipeline-call.js";
import type { Failure } from "../grpc/status/outcome.js";
import { type BreakerChange, type Measured, Recorder } from "./metrics-recorder.js";
import type { ResolvedMetricsOptions } from "./options.js";

/**
 * The metrics of a weir, for the meter provider that the user has set up or sets up later: unlike for tracers, the API has
 * no stand-in for one that comes later, so that the provider is looked up until there is one. Until then nothing is counted.
 */
export class Metrics implements DecisionCounter, Measured {
  /** The names of the semantic conventions are in use. */
  readonly byConventions: boolean;
  /** The names of gRFC A66 and A96 are in use. */
  readonly byGrpc: boolean;
  readonly #options: ResolvedMetricsOptions;
  readonly #report: ReportError;
  readonly #measure: (gauges: Gauges) => void;
  #recorder: Recorder | undefined;
  /** The provider that was asked last, and measures nothing. */
  #without: MeterProvider | undefined;

  /** @param measure Tells the numbers of policies. */
  constructor(
    options: ResolvedMetricsOptions,
    report: ReportError,
    measure: (gauges: Gauges) => void,
  ) {
    this.#options = options;
    this.#report = report;
    this.#measure = measure;
    this.byConventions = options.metricNames !== "grpc";
    this.byGrpc = options.metricNames !== "otel";
  }

  /** Looks for the provider: gauges are told from then on. */
  connect(): void {
    this.#recorder ??= this.recorder;
  }

  /** `undefined` while there is no provider that measures. */
  get recorder(): Recorder | undefined {
    if (this.#recorder !== undefined) return this.#recorder;
    const provider = this.#options.meterProvider ?? metrics.getMeterProvider();
    if (provider === this.#without) return undefined;
    const recorder = Recorder.of(provider, this.#report);
    if (recorder === undefined) this.#without = provider;
    else recorder.sources.add(this);
    this.#recorder = recorder;
    return recorder;
  }

  get idle(): boolean {
    return this.recorder === undefined;
  }

  measure(gauges: Gauges): void {
    this.#measure(gauges);
  }

  count(decision: Decision, side: Side, priority: Priority | undefined): void {
    this.recorder?.decided(decision, side, priority);
  }

  breakerChanged(change: BreakerChange): void {
    this.recorder?.breakerChanged(change);
  }
}

/** The parts that measure the calls of a client and their attempts. */
export function clientMeters(metrics: Metrics): MeterParts {
  const call: CallPart = {
    at: "call",
    begin(call) {
      const { recorder } = metrics;
      return recorder && new CallMeter(metrics, recorder, call);
    },
  };
  const attempt: AttemptPart = {
    at: "attempt",
    begin(attempt) {
      const { recorder } = metrics;
      return recorder && new AttemptMeter(metrics, recorder, attempt);
    },
  };
  return { call, attempt };
}

/** Measures one call, from its start to the status that the caller gets. */
class CallMeter implements CallWatch {
  readonly #metrics: Metrics;
  readonly #recorder: Recorder;
  readonly #call: PipelineCall;

  constructor(metrics: Metrics, recorder: Recorder, call: PipelineCall) {
    this.#metrics = metrics;
    this.#recorder = recorder;
    this.#call = call;
  }

  ended({ code }: StatusObject): void {
    const { record, endedAtMs } = this.#call;
    const { byConventions, byGrpc } = this.#metrics;
    const recorder = this.#recorder;
    const place = recorder.places.client(record.target, record.method);
    const seconds = Math.max(0, endedAtMs - record.startedAtMs) / 1_000;
    if (byConventions) recorder.record("clientDuration", seconds, place.duration(code));
    place.ended(record.priority, code);
    if (code === Status.OK && record.decisions.some(answeredByFallback)) place.endedDegraded();
    if (!byGrpc) return;
    recorder.record("grpcCallDuration", seconds, place.grpcDuration(code));
    const { retries, hedges, delayMs } = furtherAttempts(record, endedAtMs);
    if (retries > 0) recorder.record("grpcRetries", retries, place.grpc);
    if (hedges > 0) recorder.record("grpcHedges", hedges, place.grpc);
    recorder.record("grpcRetryDelay", delayMs / 1_000, place.grpc);
  }
}

function answeredByFallback({ verdict, enforced }: Decision): boolean {
  return verdict === "fallback" && enforced;
}

/** What a call has sent after its first attempt, and for how long it had no attempt after the first. */
function furtherAttempts({ attempts }: CallRecord, endedAtMs: number) {
  const further = { retries: 0, hedges: 0, delayMs: 0 };
  let activeUntilMs = Number.POSITIVE_INFINITY;
  for (const { cause, sentAtMs, endedAtMs: itsEndMs = endedAtMs } of attempts) {
    // A policy has refused it.
    if (sentAtMs === undefined) continue;
    if (cause === "retry") further.retries += 1;
    if (cause === "hedge") further.hedges += 1;
    further.delayMs += Math.max(0, sentAtMs - activeUntilMs);
    activeUntilMs =
      activeUntilMs === Number.POSITIVE_INFINITY ? itsEndMs : Math.max(activeUntilMs, itsEndMs);
  }
  return further;
}

/** Measures one attempt, from the gates to its end. */
class AttemptMeter implements AttemptWatch {
  readonly #recorder: Recorder;
  readonly #attempt: Attempt;
  /** `undefined` where durations of attempts are not measured. */
  readonly #sentAtMs: number | undefined;

  constructor(metrics: Metrics, recorder: Recorder, attempt: Attempt) {
    this.#recorder = recorder;
    this.#attempt = attempt;
    if (!metrics.byGrpc) return;
    this.#sentAtMs = attempt.sentAtMs;
    const { places } = recorder;
    const { target, method } = attempt.record;
    places.client(target, method).started(places.grpcAttemptStarted);
  }

  ended({ code }: StatusObject, failure: Failure | undefined): undefined {
    const { record, attempt } = this.#attempt;
    const recorder = this.#recorder;
    const place = recorder.places.client(record.target, record.method);
    const origin = attempt.superseded === true ? "superseded" : (failure?.origin ?? "remote");
    place.attempted(attempt.cause, origin, code);
    const sentAtMs = this.#sentAtMs;
    if (sentAtMs === undefined) return;
    const seconds = Math.max(0, (attempt.endedAtMs ?? sentAtMs) - sentAtMs) / 1_000;
    recorder.record("grpcAttemptDuration", seconds, place.grpcDuration(code));
  }
}

/** The part that measures the calls of a server. */
export function serverMeter(metrics: Metrics): ServerMeterPart {
  return {
    get idle() {
      return metrics.idle;
    },
    begun({ method }) {
      const places = metrics.recorder?.places;
      if (metrics.byGrpc) places?.server(method).started(places.grpcServerStarted);
    },
    ended(inbound, code, nowMs) {
      const { recorder, byConventions, byGrpc } = metrics;
      if (recorder === undefined) return;
      const { method, startedAtMs, priority, degradations } = inbound;
      const place = recorder.places.server(method);
      const seconds = Math.max(0, nowMs - startedAtMs) / 1_000;
      if (byConventions) recorder.record("serverDuration", seconds, place.duration(code));
      if (byGrpc) recorder.record("grpcServerDuration", seconds, place.grpcDuration(code));
      place.ended(priority, code);
      if (code === Status.OK && degradations.length > 0) place.endedDegraded();
    },
  };
}
