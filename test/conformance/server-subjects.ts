import * as server from "../../src/server.js";
import type { ConformanceSubject } from "../../src/testing/conformance/conformance.js";
import { createWeir } from "../../src/weir.js";

// Asked for while the faults are built.
Object.assign(process.env, { GRPC_WEIR_FAULTS: "1" });

/** Each server interceptor alone. */
export const serverSubjects: Readonly<Record<string, ConformanceSubject>> = {
  "server context": { server: (env) => [server.context(env)] },
  "server deadline guard": { server: (env) => [server.deadlineGuard(env)] },
  // Each call waits for the word of a store.
  "server quota": {
    server: (env) => [
      server.quota({
        ...env,
        ratePerSecond: 1_000,
        store: { take: async () => ({ granted: true }) },
      }),
    ],
  },
  "server bulkhead": {
    server: (env) => [server.bulkhead({ ...env, maxConcurrent: 2, maxWaitMs: 60_000 })],
  },
  // Learns from all, and refuses none. It has no factory of its own, so it stands in a pipeline.
  "server admission with streams together, and a limit and a guard that learn": {
    server: (env) =>
      createWeir(env).server({
        deadlineGuard: { learned: { mode: "enforce", minSamples: 1, share: 0.01 } },
        admission: { streams: "together", limit: "adaptive" },
      }),
  },
  "server brownout": {
    server: (env) => [
      server.context(env),
      server.brownout({ ...env, pressure: () => 1, optional: { pictures: {} } }),
    ],
  },
  "server admission": { server: (env) => [server.admission(env)] },
  "server faults": {
    server: (env) => [
      server.faults({
        ...env,
        latency: { rate: 1, ms: 1 },
        status: { rate: 0 },
        drop: { rate: 0 },
        midStream: { rate: 0 },
        headers: true,
      }),
    ],
  },
};
