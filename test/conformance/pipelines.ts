import * as client from "../../src/client.js";
import type { ConformanceSubject } from "../../src/testing/conformance/conformance.js";
import { createWeir } from "../../src/weir.js";

// Asked for while the faults are built.
Object.assign(process.env, { GRPC_WEIR_FAULTS: "1" });

const patient = { maxQueued: 100, maxWaitMs: 60_000 } as const;
const halves = { first: { share: 0.5 }, second: { maxShare: 0.75 } } as const;
const never = {
  latency: { rate: 0, ms: 1 },
  status: { rate: 0 },
  drop: { rate: 0 },
  midStream: { rate: 0 },
} as const;
/** A store that is asked over a network. */
const store = { take: async () => ({ granted: true as const }) };

export const standardPipelines: Readonly<Record<string, ConformanceSubject>> = {
  "the standard pipelines": {
    client: (env) => createWeir(env).client({ bulkhead: {} }),
    server: (env) => createWeir(env).server({ admission: {} }),
  },
};

export const fullPipelines: Readonly<Record<string, ConformanceSubject>> = {
  "pipelines with everything": {
    client: (env) =>
      createWeir({ ...env, onError: () => {} }).client({
        timeouts: { attemptMs: 60_000, idleMs: 60_000 },
        idempotencyKey: { honoured: true },
        retry: { maxAttempts: 5, resume: { token: () => undefined, request: (first) => first } },
        hedge: { quantile: 0.99 },
        breaker: { slowMs: 60_000, inFlightMs: 60_000, rampMs: 1_000 },
        throttle: {},
        rate: { ratePerSecond: 1_000, maxWaitMs: 60_000, store },
        bulkhead: {
          ...patient,
          maxConcurrent: 4,
          partitions: halves,
          partition: ({ kind }) => (kind === "unary" ? "first" : "second"),
          streams: { maxConcurrent: 8 },
        },
        // For no failure: a call must end as it does without them.
        fallback: {
          providers: [
            client.staleCache({ shared: true, singleFlight: false, when: () => false }),
            client.empty({ when: () => false }),
          ],
        },
        faults: { ...never, reset: { rate: 0 } },
      }),
    server: (env) =>
      createWeir(env).server({
        deadlineGuard: { minRemainingMs: 1, learned: { mode: "enforce" } },
        quota: [{ ratePerSecond: 10_000 }, { ratePerSecond: 10_000, key: "peer", store }],
        bulkhead: {
          ...patient,
          maxConcurrent: 4,
          partitions: halves,
          partition: ({ kind }) => (kind === "unary" ? "first" : "second"),
        },
        admission: {
          ...patient,
          limit: 2,
          thresholds: { low: 1, normal: 1, high: 1 },
          streams: {
            ...patient,
            limit: { algorithm: "elastic", min: 2, max: 8 },
            maxAgeMs: 600_000,
          },
        },
        brownout: { optional: { pictures: {} } },
        faults: { ...never, headers: true },
      }),
  },
};
