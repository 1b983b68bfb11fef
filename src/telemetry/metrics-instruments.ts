import type { GaugeName } from "../core/gauges.js";

/** One instrument, as `docs/metrics.md` lists it. */
interface Definition {
  readonly name: string;
  readonly unit: string;
  readonly description: string;
}

/** The buckets of the semantic conventions for the duration of calls, in seconds. */
const rpcSeconds = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];
/** The buckets of gRFC A66 for latencies, in seconds. */
const grpcSeconds = [
  0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006,
  0.008, 0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25,
  0.3, 0.4, 0.5, 0.65, 0.8, 1, 2, 5, 10, 20, 50, 100,
];
const waitSeconds = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5];
/** The buckets of gRFC A96 for further attempts of a call. */
const furtherAttempts = [1, 2, 3, 4, 5];

/**
 * All instruments are in the three tables below. Names that begin with `rpc.` are those of the semantic conventions, names
 * that begin with `grpc.` those of gRFC A66 and A96.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/rpc/rpc-metrics/
 * @see https://github.com/grpc/proposal/blob/master/A66-otel-stats.md
 * @see https://github.com/grpc/proposal/blob/master/A96-retry-otel-stats.md
 */
export const histograms = {
  clientDuration: {
    name: "rpc.client.call.duration",
    unit: "s",
    description: "Duration of client calls, with all attempts and waits.",
    buckets: rpcSeconds,
  },
  serverDuration: {
    name: "rpc.server.call.duration",
    unit: "s",
    description: "Duration of inbound calls, refused ones included.",
    buckets: rpcSeconds,
  },
  queueWait: {
    name: "weir.queue.wait",
    unit: "s",
    description: "How long calls waited in a queue.",
    buckets: waitSeconds,
  },
  grpcAttemptDuration: {
    name: "grpc.client.attempt.duration",
    unit: "s",
    description: "Duration of attempts.",
    buckets: grpcSeconds,
  },
  grpcCallDuration: {
    name: "grpc.client.call.duration",
    unit: "s",
    description: "Duration of client calls, with all attempts and waits.",
    buckets: grpcSeconds,
  },
  grpcRetries: {
    name: "grpc.client.call.retries",
    unit: "{retry}",
    description: "Retries of calls that had some.",
    buckets: furtherAttempts,
  },
  grpcHedges: {
    name: "grpc.client.call.hedges",
    unit: "{hedge}",
    description: "Hedges of calls that had some.",
    buckets: furtherAttempts,
  },
  grpcRetryDelay: {
    name: "grpc.client.call.retry_delay",
    unit: "s",
    description: "Time of calls in which no attempt was active, after the first.",
    buckets: grpcSeconds,
  },
  grpcServerDuration: {
    name: "grpc.server.call.duration",
    unit: "s",
    description: "Duration of inbound calls, refused ones included.",
    buckets: grpcSeconds,
  },
} as const satisfies Readonly<Record<string, Definition & { readonly buckets: readonly number[] }>>;

/** Observable counters: what they count is counted here, and read when somebody collects. */
export const counters = {
  calls: {
    name: "weir.calls",
    unit: "{call}",
    description: "Calls that ended, by priority and status.",
  },
  attempts: {
    name: "weir.attempts",
    unit: "{attempt}",
    description: "Attempts that were sent and ended.",
  },
  refusals: {
    name: "weir.refusals",
    unit: "{refusal}",
    description: "Calls, attempts and guarded runs that a policy refused, or would have refused.",
  },
  decisions: {
    name: "weir.decisions",
    unit: "{decision}",
    description: "What policies decided, beside refusals and waits in queues.",
  },
  degraded: {
    name: "weir.degraded",
    unit: "{call}",
    description: "Calls whose answer was OK and degraded.",
  },
  guardRuns: {
    name: "weir.guard.runs",
    unit: "{run}",
    description: "Guarded runs that ended.",
  },
  admissionAdmitted: {
    name: "weir.admission.admitted",
    unit: "{call}",
    description: "Calls that the admission gave a slot.",
  },
  breakerTransitions: {
    name: "weir.breaker.transitions",
    unit: "{transition}",
    description: "Changes of state of a circuit breaker.",
  },
  grpcAttemptStarted: {
    name: "grpc.client.attempt.started",
    unit: "{attempt}",
    description: "Attempts that were started.",
  },
  grpcServerStarted: {
    name: "grpc.server.call.started",
    unit: "{call}",
    description: "Inbound calls that were started.",
  },
} as const satisfies Readonly<Record<string, Definition>>;

/** Observable gauges. */
export const gauges = {
  queueLength: {
    name: "weir.queue.length",
    unit: "{call}",
    description: "Calls that wait in a queue.",
  },
  admissionLimit: {
    name: "weir.admission.limit",
    unit: "{call}",
    description: "How many calls the server runs at once.",
  },
  admissionRunning: {
    name: "weir.admission.running",
    unit: "{call}",
    description: "Slots of the admission that are in use.",
  },
  bulkheadLimit: {
    name: "weir.bulkhead.limit",
    unit: "{call}",
    description: "Permits of a bulkhead.",
  },
  bulkheadRunning: {
    name: "weir.bulkhead.running",
    unit: "{call}",
    description: "Permits of a bulkhead that are out.",
  },
  breakerState: {
    name: "weir.breaker.state",
    unit: "1",
    description: "State of a circuit breaker: 0 closed, 1 half-open, 2 open.",
  },
  retryBudget: {
    name: "weir.retry.budget",
    unit: "1",
    description: "What a retry budget has left; at 0 there are no further attempts.",
  },
  pressure: {
    name: "weir.pressure",
    unit: "1",
    description: "Pressure on the process by signal, from 0 to 1.",
  },
  throttleShare: {
    name: "weir.throttle.share",
    unit: "1",
    description: "Share of calls that the throttle holds back, from 0 to 1.",
  },
  brownout: {
    name: "weir.brownout",
    unit: "1",
    description: "Pressure by which optional work is left out, from 0 to 1.",
  },
  draining: {
    name: "weir.draining",
    unit: "1",
    description: "1 while a server drains, otherwise 0.",
  },
  storeAway: {
    name: "weir.store.away",
    unit: "1",
    description: "1 while a store that processes share does not answer, otherwise 0.",
  },
  flag: {
    name: "weir.flag",
    unit: "1",
    description: "1 for each flag that is set, and not to false.",
  },
} as const satisfies Readonly<Record<string, Definition>>;

export type HistogramName = keyof typeof histograms;
/** The instruments that are read when somebody collects. */
export type ObservableName = keyof typeof counters | keyof typeof gauges;

/** What becomes of the numbers of several policies with the same labels. */
type Join = "sum" | "highest" | "lowest";

/** The instrument of each number that policies tell. */
export const gaugeInstruments: Readonly<
  Record<
    GaugeName,
    {
      readonly instrument: ObservableName;
      readonly join: Join;
      /** What is told of a series that there is no more. Absent: nothing, as no number would be true. */
      readonly gone?: 0;
    }
  >
> = {
  queue: { instrument: "queueLength", join: "sum", gone: 0 },
  admissionLimit: { instrument: "admissionLimit", join: "sum" },
  admissionRunning: { instrument: "admissionRunning", join: "sum", gone: 0 },
  admissionAdmitted: { instrument: "admissionAdmitted", join: "sum" },
  bulkheadLimit: { instrument: "bulkheadLimit", join: "sum" },
  bulkheadRunning: { instrument: "bulkheadRunning", join: "sum", gone: 0 },
  breaker: { instrument: "breakerState", join: "highest", gone: 0 },
  budget: { instrument: "retryBudget", join: "lowest" },
  pressure: { instrument: "pressure", join: "highest", gone: 0 },
  throttle: { instrument: "throttleShare", join: "highest", gone: 0 },
  brownout: { instrument: "brownout", join: "highest", gone: 0 },
  draining: { instrument: "draining", join: "highest", gone: 0 },
  storeAway: { instrument: "storeAway", join: "highest", gone: 0 },
  guardRuns: { instrument: "guardRuns", join: "sum" },
  flag: { instrument: "flag", join: "highest", gone: 0 },
};

/** The attributes of the toolkit's instruments, beside those that spans have, too. */
export const measured = {
  policy: "weir.policy",
  verdict: "weir.verdict",
  reason: "weir.reason",
  enforced: "weir.enforced",
  priority: "weir.priority",
  side: "weir.side",
  key: "weir.key",
  pool: "weir.pool",
  signal: "weir.signal",
  budget: "weir.budget",
  outcome: "weir.outcome",
  guard: "weir.guard.name",
  flag: "weir.flag.name",
  breakerKey: "weir.breaker.key",
  breakerFrom: "weir.breaker.from",
  breakerTo: "weir.breaker.to",
} as const;

/** The attributes of gRFC A66. */
export const grpcLabels = {
  method: "grpc.method",
  target: "grpc.target",
  status: "grpc.status",
} as const;
