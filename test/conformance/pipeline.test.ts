import { createWeir } from "../../src/weir.js";
import { register } from "./register.js";

const patient = { maxQueued: 100, maxWaitMs: 60_000 } as const;

register({
  "the standard pipelines": {
    client: (env) => createWeir(env).client({ bulkhead: {} }),
    server: (env) => createWeir(env).server({ admission: {} }),
  },
  "pipelines with everything": {
    client: (env) =>
      createWeir(env).client({
        timeouts: { attemptMs: 60_000, idleMs: 60_000 },
        idempotencyKey: { honoured: true },
        retry: { maxAttempts: 5, resume: { token: () => undefined, request: (first) => first } },
        hedge: { quantile: 0.99 },
        bulkhead: { ...patient, maxConcurrent: 4 },
      }),
    server: (env) =>
      createWeir(env).server({
        deadlineGuard: { minRemainingMs: 1 },
        admission: { ...patient, limit: 2, thresholds: { low: 1, normal: 1, high: 1 } },
      }),
  },
});
